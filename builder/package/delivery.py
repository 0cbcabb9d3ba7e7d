"""An archive and the files beside it: put where the user wants them, and found again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from builder.artifacts import Archive, File, Reference
from builder.errors import ArchiveError, DamagedError, disk_error
from builder.package.manifest import SUFFIX, Manifest, read_manifest, write_manifest
from builder.package.pack import SUFFIX as ARCHIVE_SUFFIX
from builder.tools.atomic import replacing
from builder.tools.copying import copy_hashing

if TYPE_CHECKING:
    from pathlib import Path

    from builder.core.stats import Stats
    from builder.package.manifest import FileFacts

_TOGETHER: Final = "keep the archive and the files beside it together"
_BESIDE: Final = {
    "samples.jsonl": ".samples.jsonl",
    "expected.safetensors": ".expected.safetensors",
    "expected.json": ".expected.json",  # only of pipelines
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """An archive as it is handed out."""

    archive: Archive
    reference: Reference
    manifest: Manifest
    manifest_path: Path


def deliver(archive: Archive, reference: Reference, manifest: Manifest, folder: Path, stats: Stats) -> Delivery:
    """Puts an archive and what belongs to it into a folder. The manifest comes last: where it is, all is there.

    For the same reason an older manifest goes first, as soon as one of the files beside it is replaced.

    The files are copies, hashed while they are made: what the user does to them is nothing to the store. Those that
    are there already, as far as stat can tell, are left.

    Args:
        archive: the archive.
        reference: samples and expected answers.
        manifest: what is known of the archive.
        folder: where they go.
        stats: which content files had when they were last seen.

    Raises:
        DamagedError: a file is not what it was; nothing of it is delivered.
        MachineError: the disk is full or cannot be written.
    """
    folder = folder.absolute()
    stem = archive.name.removesuffix(ARCHIVE_SUFFIX)
    path = folder / (stem + SUFFIX)
    targets = {name: folder / (stem + suffix) for name, suffix in _BESIDE.items() if name in reference.files}
    wanted = {folder / archive.name: archive.file, **{targets[name]: reference.files[name] for name in targets}}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(stats.known(target) != file.sha256 for target, file in wanted.items()):
            path.unlink(missing_ok=True)
        placed = _place(archive.file, folder / archive.name, stats)
        beside = {name: _place(reference.files[name], target, stats) for name, target in targets.items()}
    except OSError as error:
        raise disk_error(folder, error) from error
    write_manifest(path, manifest)
    stats.note((placed, *beside.values()))
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
        ArchiveError: one of the files is missing, or the manifest is damaged or that of another archive.
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
    if reference.texts:
        wanted["expected.json"] = reference.texts
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
    )


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
