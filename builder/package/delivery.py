"""An archive and the files beside it: put where the user wants them, and found again."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from builder.artifacts import Archive, File, Reference
from builder.core.digest import digest_file
from builder.errors import ArchiveError, DamagedError, disk_error
from builder.package.attest import PROVENANCE, SBOM
from builder.package.attested import check_attested
from builder.package.manifest import SUFFIX, Manifest, attest_facts, read_manifest, write_manifest
from builder.package.pack import SUFFIX as ARCHIVE_SUFFIX
from builder.package.seal import SUFFIX as SEAL
from builder.package.seal import check_seal, is_sealed, seal, unseal
from builder.tools.atomic import replacing
from builder.tools.copying import copy_hashing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.core.stats import Stats
    from builder.package.manifest import FileFacts

log = logging.getLogger(__name__)

_TOGETHER: Final = "keep the archive and the files beside it together"
_BESIDE: Final = {
    "samples.jsonl": ".samples.jsonl",
    "expected.safetensors": ".expected.safetensors",
    "expected.json": ".expected.json",  # only of pipelines
    PROVENANCE: ".provenance.json",
    SBOM: ".sbom.cdx.json",
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """An archive as it is handed out."""

    archive: Archive
    reference: Reference
    manifest: Manifest
    manifest_path: Path
    attested: Mapping[str, File] = field(default_factory=dict)  # provenance.json, sbom.cdx.json; earlier: nothing
    seal: Path | None = None  # checksums, with their signature beside them; None: it is not signed

    def covered(self) -> dict[str, str]:
        """sha256, by name, of what a seal is about: the archive and all that lies beside it.

        Raises:
            OSError: the manifest cannot be read.
        """
        files = (self.archive.file, *self.reference.files.values(), *self.attested.values())
        return {file.path.name: file.sha256 for file in files} | {
            self.manifest_path.name: digest_file(self.manifest_path)
        }


def deliver(
    archive: Archive,
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
    are there already, as far as stat can tell, are left.

    Args:
        archive: the archive.
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
    stem = archive.name.removesuffix(ARCHIVE_SUFFIX)
    path = folder / (stem + SUFFIX)
    given = {**reference.files, **(attested or {})}
    targets = {name: folder / (stem + suffix) for name, suffix in _BESIDE.items() if name in given}
    wanted = {folder / archive.name: archive.file, **{targets[name]: given[name] for name in targets}}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(stats.known(target) != file.sha256 for target, file in wanted.items()):
            path.unlink(missing_ok=True)
        placed = _place(archive.file, folder / archive.name, stats)
        beside = {name: _place(given[name], target, stats) for name, target in targets.items()}
    except OSError as error:
        raise disk_error(folder, error) from error
    shown = {name: file for name, file in beside.items() if name in (PROVENANCE, SBOM)}
    asked = replace(reference, files={name: beside[name] for name in reference.files})
    manifest = attest_facts(manifest, shown.get(PROVENANCE), shown.get(SBOM))
    write_manifest(path, manifest)
    stats.note((placed, *beside.values()))
    made = Delivery(replace(archive, file=placed), asked, manifest, path, shown)
    return _sealed(made, folder / (stem + SEAL), key)


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


def check_trust(path: Path, trusted: Path) -> str:
    """Checks that a trusted key signed an archive and all that lies beside it.

    Args:
        path: the archive.
        trusted: a file with public keys.

    Returns:
        The signer's key: ``ED25519 SHA256:…``.

    Raises:
        ArchiveError: it is not signed, or by another key; or one of the files was changed, or is not covered.
        UserError: the keys cannot be read.
    """
    _check_name(path)
    signer, signed = check_seal(seal_path(path), trusted)
    for name in collect(path).covered():
        if name not in signed:
            raise ArchiveError(f"{path.with_name(name)}: is not covered by the signature", mend="sign it again")
    return signer


def seal_path(archive: Path) -> Path:
    """Where the checksums of an archive lie, if it is signed: beside it."""
    return archive.absolute().with_name(archive.name.removesuffix(ARCHIVE_SUFFIX) + SEAL)


def attested_path(archive: Path, name: str) -> Path:
    """Where a file of :class:`builder.artifacts.Attested` lies: beside the archive."""
    return archive.absolute().with_name(archive.name.removesuffix(ARCHIVE_SUFFIX) + _BESIDE[name])


def manifest_path(archive: Path) -> Path:
    """Where the manifest of an archive lies: beside it."""
    return archive.absolute().with_name(archive.name.removesuffix(ARCHIVE_SUFFIX) + SUFFIX)


def collect(path: Path) -> Delivery:
    """Finds an archive and what belongs to it.

    Args:
        path: the archive.

    Returns:
        The files with the sizes and digests that the manifest states: whoever reads one holds its bytes against them.

    Raises:
        ArchiveError: one of the files is missing, or the manifest is damaged or that of another archive; or provenance
            or bill of materials are not those of this archive.
    """
    _check_name(path)
    stem = path.name.removesuffix(ARCHIVE_SUFFIX)
    beside = manifest_path(path)
    manifest = read_manifest(beside)
    facts, reference = manifest.archive, manifest.reference
    if facts.file != path.name:
        raise ArchiveError(f"{beside}: is the manifest of {facts.file}", mend="give the archive its name back")
    wanted: dict[str, FileFacts] = {"samples.jsonl": reference.samples, "expected.safetensors": reference.expected}
    if reference.texts:
        wanted["expected.json"] = reference.texts
    shown = {name: fact for name, fact in ((PROVENANCE, manifest.provenance), (SBOM, manifest.sbom)) if fact}
    attested = {name: _stated(attested_path(path, name), fact.sha256, fact.size) for name, fact in shown.items()}
    check_attested(attested, facts)
    checksums = seal_path(path)
    return Delivery(
        Archive(
            file=_stated(path, facts.sha256, facts.size),
            tree_digest=facts.tree_digest,
            unpacked_size=facts.unpacked_size,
            format=facts.format,
            name=path.name,
        ),
        Reference(
            files={
                name: _stated(path.with_name(stem + _BESIDE[name]), fact.sha256, fact.size)
                for name, fact in wanted.items()
            },
            outputs=reference.outputs,
            controls=reference.controls,
            record=reference.record,
            metric=reference.metric,
            labels=reference.labels,
        ),
        manifest,
        beside,
        attested,
        checksums if is_sealed(checksums) else None,
    )


def _check_name(path: Path) -> None:
    if not path.name.endswith(ARCHIVE_SUFFIX):
        raise ArchiveError(f"{path}: is no archive; the name of one ends with {ARCHIVE_SUFFIX}")
    if not path.is_file():
        raise ArchiveError(f"{path}: no such file", mend=_TOGETHER)


def _stated(path: Path, sha256: str, size: int) -> File:
    if not path.is_file():
        raise ArchiveError(f"{path}: no such file", mend=_TOGETHER)
    return File(path=path.absolute(), sha256=sha256, size=size)


def _place(file: File, target: Path, stats: Stats) -> File:
    """A copy of a file under another name, whole or not at all."""
    placed = File(path=target, sha256=file.sha256, size=file.size)
    if stats.known(target) == file.sha256:
        return placed
    try:
        with file.path.open("rb", buffering=0) as read, replacing(target) as write:
            digest, _ = copy_hashing(read.fileno(), write)
            if digest != file.sha256:
                raise DamagedError(file.path, f"{file.path}: is not what it was", mend="build again")
    except FileNotFoundError as error:
        if file.path.exists():
            raise
        raise DamagedError(file.path, f"{file.path}: is gone", mend="build again") from error
    return placed
