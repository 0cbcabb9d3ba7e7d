"""An archive, or a folder of a format that is not packed, and the files beside it: found again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.artifacts import Archive, File, Folder, Packed, Reference
from builder.core.digest import digest_tree
from builder.core.trees import strangers
from builder.errors import ArchiveError, disk_error
from builder.package.attest import PROVENANCE, SBOM
from builder.package.attested import check_attested
from builder.package.delivery import Delivery
from builder.package.formats import SUFFIX
from builder.package.manifest_file import read_manifest
from builder.package.places import BESIDE, attested_path, manifest_path, path_beside, seal_path
from builder.package.seal import check_seal, is_sealed

if TYPE_CHECKING:
    from pathlib import Path

    from builder.package.manifest import ArchiveFacts, FileFacts

_TOGETHER: Final = "keep the archive and the files beside it together"
_NAME: Final = "name what tritonsmith built: an archive, or a folder of the format s3-prefix"


def check_trust(path: Path, trusted: Path) -> str:
    """Checks that a trusted key signed an archive and all that lies beside it.

    Args:
        path: the archive, or the folder.
        trusted: a file with public keys.

    Returns:
        The signer's key: ``ED25519 SHA256:…``.

    Raises:
        ArchiveError: it is not signed, or by another key; or one of the files was changed, or is not covered.
        UserError: the keys cannot be read.
    """
    _check_name(path)
    signer, signed = check_seal(seal_path(path), trusted)
    found = collect(path)
    for name in found.covered():
        if name not in signed:
            missing = found.path.parent / name
            raise ArchiveError(f"{missing}: is not covered by the signature", mend="sign it again")
    if isinstance(found.archive, Folder):
        _check_strangers(path, found.archive)
    return signer


def collect(path: Path) -> Delivery:
    """Finds an archive, or a folder of a format that is not packed, and what belongs to it.

    Args:
        path: the archive, or the folder.

    Returns:
        The files with the sizes and digests that the manifest states: whoever reads one holds its bytes against them.

    Raises:
        ArchiveError: one of the files is missing, or the manifest is damaged or that of another archive; or provenance
            or bill of materials are not those of this archive.
    """
    _check_name(path)
    beside = manifest_path(path)
    manifest = read_manifest(beside)
    facts, reference = manifest.archive, manifest.reference
    if facts.file != path.absolute().name:
        raise ArchiveError(f"{beside}: is the manifest of {facts.file}", mend="give the archive its name back")
    wanted: dict[str, FileFacts] = {"samples.jsonl": reference.samples, "expected.safetensors": reference.expected}
    if reference.texts:
        wanted["expected.json"] = reference.texts
    shown = {name: fact for name, fact in ((PROVENANCE, manifest.provenance), (SBOM, manifest.sbom)) if fact}
    attested = {name: _stated(attested_path(path, name), fact) for name, fact in shown.items()}
    check_attested(attested, facts)
    checksums = seal_path(path)
    return Delivery(
        _packed(path.absolute(), beside, facts),
        Reference(
            files={name: _stated(path_beside(path, BESIDE[name]), fact) for name, fact in wanted.items()},
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


def _packed(path: Path, beside: Path, facts: ArchiveFacts) -> Packed:
    """What lies at the path, as the manifest states it."""
    if path.is_dir() != facts.is_folder:
        found, stated = ("a folder", "an archive") if path.is_dir() else ("a file", "a folder")
        raise ArchiveError(f"{path}: is {found}; {beside.name} is about {stated}", mend=_TOGETHER)
    if not facts.is_folder:
        file = File(path=path, sha256=facts.sha256, size=facts.size)
        return Archive(file, facts.tree_digest, facts.unpacked_size, facts.format, path.name)
    files = {name: File(path / name, fact.sha256, fact.size) for name, fact in facts.members.items()}
    folder = Folder(files, facts.tree_digest, facts.format, path.name)
    if not files or {digest_tree(files), facts.sha256} != {facts.tree_digest} or folder.size != facts.size:
        raise ArchiveError(f"{beside}: its members are not the tree that it states", mend=_TOGETHER)
    return folder


def _check_strangers(path: Path, folder: Folder) -> None:
    """Checksums say nothing of files that are not among them."""
    try:
        found = [f"{name} {what}" for name, what in sorted(strangers(path, folder.files))]
    except OSError as error:
        raise disk_error(path, error) from error
    if found:
        raise ArchiveError(f"{path}: is not what was signed: {'; '.join(found)}", mend="fetch it again")


def _check_name(path: Path) -> None:
    if path.is_dir():
        if not manifest_path(path).is_file():
            raise ArchiveError(f"{path}: no manifest lies beside it: {manifest_path(path).name}", mend=_NAME)
        return
    if not path.name.endswith(SUFFIX):
        raise ArchiveError(f"{path}: is no archive; the name of one ends with {SUFFIX}", mend=_NAME)
    if not path.exists():
        raise ArchiveError(f"{path}: no such file", mend=_TOGETHER)


def _stated(path: Path, facts: FileFacts) -> File:
    if not path.is_file():
        raise ArchiveError(f"{path}: no such file", mend=_TOGETHER)
    return File(path=path.absolute(), sha256=facts.sha256, size=facts.size)
