"""An archive, or a folder of a format that is not packed, and the files beside it: put where the user wants them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from builder.artifacts import File, Folder, Packed, Reference
from builder.core.digest import digest_file
from builder.errors import disk_error
from builder.package.attest import PROVENANCE, SBOM
from builder.package.describing import attest_facts
from builder.package.manifest_file import write_manifest
from builder.package.places import BESIDE, MANIFEST, SEAL, stem
from builder.package.placing import changes, is_placed, place, place_folder
from builder.package.seal import is_sealed, seal, unseal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from builder.core.stats import Stats
    from builder.package.manifest import Manifest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """An archive or a folder as it is handed out."""

    archive: Packed
    reference: Reference
    manifest: Manifest
    manifest_path: Path
    attested: Mapping[str, File] = field(default_factory=dict)  # provenance.json, sbom.cdx.json; earlier: nothing
    seal: Path | None = None  # checksums, with their signature beside them; None: it is not signed

    @property
    def path(self) -> Path:
        """The archive or the folder."""
        return self.manifest_path.with_name(self.archive.name)

    def covered(self) -> dict[str, str]:
        """sha256 of what a seal is about, by its path beside the manifest: what is handed out and all that lies beside.

        Of a folder that is each of its files, as ``sha256sum`` would have it: whoever receives it can check them all
        without reading a manifest.

        Raises:
            OSError: the manifest cannot be read.
        """
        files = (*_files(self.archive), *self.reference.files.values(), *self.attested.values())
        folder = self.manifest_path.parent
        return {file.path.relative_to(folder).as_posix(): file.sha256 for file in files} | {
            self.manifest_path.name: digest_file(self.manifest_path)
        }


def _files(packed: Packed) -> Iterable[File]:
    return packed.files.values() if isinstance(packed, Folder) else (packed.file,)


def deliver(
    archive: Packed,
    reference: Reference,
    manifest: Manifest,
    folder: Path,
    stats: Stats,
    *,
    attested: Mapping[str, File] | None = None,
    key: Path | None = None,
) -> Delivery:
    """Puts an archive and what belongs to it into a folder. The manifest comes last: where it is, all is there.

    For the same reason an older manifest goes first, as soon as one of the files beside it is replaced. Only the
    signature comes after it, for it covers the manifest, too.

    The files are copies, hashed while they are made: what the user does to them is nothing to the store. Those that
    are there already, as far as stat can tell, are left. A folder appears whole, and is replaced whole.

    Args:
        archive: the archive, or the folder.
        reference: samples and expected answers.
        manifest: what is known of the archive.
        folder: where they go.
        stats: which content files had when they were last seen.
        attested: provenance and bill of materials.
        key: the file of the private key that signs; None: nobody does.

    Raises:
        DamagedError: a file is not what it was; nothing of it is delivered.
        UserError: it cannot be signed with that key.
        MachineError: the disk is full or cannot be written.
    """
    folder = folder.absolute()
    path = folder / (stem(archive.name) + MANIFEST)
    given = {**reference.files, **(attested or {})}
    targets = {name: folder / (stem(archive.name) + suffix) for name, suffix in BESIDE.items() if name in given}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        changed = _changes(archive, folder, stats)
        if changed or not all(is_placed(given[name], target, stats) for name, target in targets.items()):
            path.unlink(missing_ok=True)
        placed = _place(archive, folder, stats, changed)
        beside = {name: place(given[name], target, stats) for name, target in targets.items()}
    except OSError as error:
        raise disk_error(folder, error) from error
    shown = {name: file for name, file in beside.items() if name in (PROVENANCE, SBOM)}
    asked = replace(reference, files={name: beside[name] for name in reference.files})
    manifest = attest_facts(manifest, shown.get(PROVENANCE), shown.get(SBOM))
    write_manifest(path, manifest)
    stats.note((*_files(placed), *beside.values()))
    made = Delivery(placed, asked, manifest, path, shown)
    return _sealed(made, folder / (stem(archive.name) + SEAL), key)


def _changes(packed: Packed, folder: Path, stats: Stats) -> list[str]:
    if isinstance(packed, Folder):
        return changes(packed.files, folder / packed.name, stats)
    return [] if is_placed(packed.file, folder / packed.name, stats) else [packed.name]


def _place(packed: Packed, folder: Path, stats: Stats, changed: list[str]) -> Packed:
    if isinstance(packed, Folder):
        return replace(packed, files=place_folder(packed.files, folder / packed.name, stats, changed))
    return replace(packed, file=place(packed.file, folder / packed.name, stats))


def _sealed(delivery: Delivery, path: Path, key: Path | None) -> Delivery:
    """Signed; without a key, a signature of the same bytes is left, and one of others is removed."""
    was_sealed = is_sealed(path)
    if key is None and not was_sealed and not path.exists():
        return delivery
    try:
        covered = delivery.covered()
        unseal(path, covered)
        if key is not None:
            seal(path, covered, key)
    except OSError as error:
        raise disk_error(path, error) from error
    if was_sealed and not is_sealed(path):
        log.warning("%s: was removed: it was the seal of other bytes, and nobody signs these", path.name)
    return replace(delivery, seal=path if is_sealed(path) else None)
