"""An archive and the three files beside it: put where the user wants them, and found again."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from builder.artifacts import Archive, File, Reference
from builder.errors import ArchiveError
from builder.package.manifest import SUFFIX, Manifest, read_manifest, write_manifest
from builder.package.pack import SUFFIX as ARCHIVE_SUFFIX
from builder.tools.archive import disk_error

if TYPE_CHECKING:
    from pathlib import Path

    from builder.package.manifest import FileFacts

_TOGETHER: Final = "keep the archive and the three files beside it together"
_BESIDE: Final = {"samples.jsonl": ".samples.jsonl", "expected.safetensors": ".expected.safetensors"}


@dataclass(frozen=True, slots=True)
class Delivery:
    """An archive as it is handed out."""

    archive: Archive
    reference: Reference
    manifest: Manifest
    manifest_path: Path


def deliver(archive: Archive, reference: Reference, manifest: Manifest, folder: Path) -> Delivery:
    """Puts an archive and what belongs to it into a folder. The manifest comes last: where it is, all is there.

    Raises:
        MachineError: the disk is full or cannot be written.
    """
    stem = archive.file.path.name.removesuffix(ARCHIVE_SUFFIX)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        placed = _place(archive.file, folder / archive.file.path.name)
        beside = {name: _place(reference.files[name], folder / (stem + suffix)) for name, suffix in _BESIDE.items()}
    except OSError as error:
        raise disk_error(folder, error) from error
    path = (folder / (stem + SUFFIX)).absolute()
    write_manifest(path, manifest)
    return Delivery(replace(archive, file=placed), replace(reference, files=beside), manifest, path)


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
        ArchiveError: one of the four files is missing, or the manifest is damaged or that of another archive.
    """
    if not path.name.endswith(ARCHIVE_SUFFIX):
        raise ArchiveError(f"{path}: is no archive; the name of one ends with {ARCHIVE_SUFFIX}")
    if not path.is_file():
        raise ArchiveError(f"{path}: no such file", mend=_TOGETHER)
    stem = path.name.removesuffix(ARCHIVE_SUFFIX)
    beside = manifest_path(path)
    manifest = read_manifest(beside)
    facts, reference = manifest.archive, manifest.reference
    if facts.file != path.name:
        raise ArchiveError(f"{beside}: is the manifest of {facts.file}", mend="give the archive its name back")
    wanted: dict[str, FileFacts] = {"samples.jsonl": reference.samples, "expected.safetensors": reference.expected}
    return Delivery(
        Archive(_stated(path, facts.sha256, facts.size), facts.tree_digest, facts.unpacked_size, facts.format),
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
    )


def _stated(path: Path, sha256: str, size: int) -> File:
    if not path.is_file():
        raise ArchiveError(f"{path}: no such file", mend=_TOGETHER)
    return File(path=path.absolute(), sha256=sha256, size=size)


def _place(file: File, target: Path) -> File:
    """A file under another name, whole or not at all: by a link, or by a copy where the folders are on two disks."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        try:
            temporary.hardlink_to(file.path)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES}:
                raise
            _copy(file.path, temporary)
        temporary.chmod(temporary.stat().st_mode | 0o444)  # for everybody who may fetch it, however it was made
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return File(path=target.absolute(), sha256=file.sha256, size=file.size)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("xb") as write:
        shutil.copyfileobj(read, write, 1 << 20)
        write.flush()
        os.fsync(write.fileno())
