"""Files and folders put where the user wants them: copies, whole or not at all, hashed while they are made."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

from builder.artifacts import File
from builder.core.digest import digest_file
from builder.core.trees import differences
from builder.errors import DamagedError
from builder.tools.atomic import replacing, replacing_folder
from builder.tools.copying import copy_hashing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from builder.core.stats import Stats

log = logging.getLogger(__name__)

_SHOWN: Final = 5  # paths in a warning
_LARGE_BYTES: Final = 500_000_000


def is_placed(file: File, target: Path, stats: Stats) -> bool:
    """Whether a file is there already, as far as stat can tell."""
    return stats.known(target) == file.sha256


def place(file: File, target: Path, stats: Stats) -> File:
    """A copy of a file under another name. One that is there already is left.

    Raises:
        DamagedError: it is not what it was.
        OSError: the disk is full or cannot be written.
    """
    if not is_placed(file, target, stats):
        with replacing(target) as write:
            _copy(file, write)
    return File(path=target, sha256=file.sha256, size=file.size)


def changes(files: Mapping[str, File], target: Path, stats: Stats) -> list[str]:
    """In what a folder is not these files and nothing else; what stat cannot tell is hashed.

    Raises:
        OSError: it cannot be read.
    """
    return differences(target, files, lambda path: stats.known(path) or digest_file(path))


def place_folder(files: Mapping[str, File], target: Path, stats: Stats, changed: Sequence[str]) -> dict[str, File]:
    """A folder of copies.

    Args:
        files: what is in it.
        target: the folder.
        stats: which content files had when they were last seen.
        changed: what :func:`changes` found; nothing: the folder is left as it is.

    Raises:
        DamagedError: a file is not what it was.
        OSError: the disk is full or cannot be written.
    """
    if changed:
        _tell(target, changed, sum(file.size for file in files.values()))
        with replacing_folder(target, lambda there: not changes(files, there, stats)) as temporary:
            for name, file in files.items():
                _make(file, temporary / name)
    return {name: File(target / name, file.sha256, file.size) for name, file in files.items()}


def _tell(target: Path, changed: Sequence[str], size: int) -> None:
    if target.exists():
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        log.warning("%s: was changed, and is made again: %s%s", target.name, "; ".join(changed[:_SHOWN]), more)
    if size > _LARGE_BYTES:
        log.info("copying %s (%.0f MB)", target.name, size / 1e6)


def _make(file: File, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _copy(file, descriptor)
        os.fchmod(descriptor, 0o644)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(file: File, write: int) -> None:
    try:
        with file.path.open("rb", buffering=0) as read:
            digest, _ = copy_hashing(read.fileno(), write)
    except FileNotFoundError as error:
        if file.path.exists():
            raise
        raise DamagedError(file.path, f"{file.path}: is gone", mend="build again") from error
    if digest != file.sha256:
        raise DamagedError(file.path, f"{file.path}: is not what it was", mend="build again")
