"""Folders and files that appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import glob
import logging
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def publish(folder: Path) -> Iterator[Path | None]:
    """Yields an empty folder to fill, which becomes ``folder`` when the block ends well.

    Yields None when ``folder`` exists already, or has come to exist while another process held the lock: whoever is
    first does the work, the others wait for it. What a killed process left is removed by the next one.

    Raises:
        MachineError: the disk is full or cannot be written.
    """
    if folder.is_dir():
        yield None
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_name(f".{folder.name}.lock"), folder):
            if folder.is_dir():
                yield None
                return
            for leftover in folder.parent.glob(f".{folder.name}.tmp-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.tmp-"))
            try:
                yield temporary
                temporary.chmod(0o755)
                temporary.rename(folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise disk_error(folder, error) from error


@contextmanager
def replacing(path: Path) -> Iterator[int]:
    """Yields the descriptor of an empty file, which becomes ``path``, readable by all, when the block ends well.

    While it is filled it lies beside ``path``, under another name, and is locked: the kernel drops the lock when the
    process dies, however it dies, and the next one that makes ``path`` removes what it left.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        _remove_unlocked(leftover, os.O_RDWR | os.O_CLOEXEC, os.unlink)
    descriptor, temporary = _claimed(path, _new_file)
    try:
        yield descriptor
        os.fchmod(descriptor, 0o644)
        os.fsync(descriptor)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def replacing_folder(folder: Path, stands: Callable[[Path], bool]) -> Iterator[Path]:
    """Yields an empty folder to fill, which becomes ``folder``, readable by all, when the block ends well.

    While it is filled it lies beside ``folder``, under another name, and is locked, as :func:`replacing` does it for a
    file: no lock is left where the user looks. It is never seen half filled.

    Args:
        folder: what is made, or replaced.
        stands: whether what lies there may stay: whoever is first wins, and the other's work is dropped.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    for leftover in folder.parent.glob(f".{glob.escape(folder.name)}.*.tmp"):
        _remove_unlocked(leftover, _FOLDER, shutil.rmtree)
    descriptor, temporary = _claimed(folder, _new_folder)
    try:
        yield temporary
        for path in (temporary, *temporary.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
        _put_folder(temporary, folder, stands)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(descriptor)


def _put_folder(made: Path, folder: Path, stands: Callable[[Path], bool]) -> None:
    while True:
        try:
            made.rename(folder)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                raise
        else:
            return
        if stands(folder):
            return
        away = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
        with suppress(FileNotFoundError):  # somebody else was about to replace it, too
            folder.rename(away / folder.name)
        shutil.rmtree(away, ignore_errors=True)


def write(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    with replacing(path) as descriptor, os.fdopen(descriptor, "wb", closefd=False) as stream:
        stream.write(content)


def _claimed(path: Path, new: Callable[[Path], tuple[int, Path]]) -> tuple[int, Path]:
    """What is ``new`` beside ``path``, locked, and that nobody has removed in between."""
    while True:
        descriptor, temporary = new(path)
        with suppress(OSError):  # a file system without locks: then nothing is removed on it either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, temporary
        os.close(descriptor)


def _new_file(path: Path) -> tuple[int, Path]:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    return descriptor, Path(name)


def _new_folder(path: Path) -> tuple[int, Path]:
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    return os.open(temporary, _FOLDER), temporary


def _remove_unlocked(path: Path, flags: int, remove: Callable[[Path], None]) -> None:
    with suppress(OSError):
        descriptor = os.open(path, flags)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(path)
        finally:
            os.close(descriptor)


@contextmanager
def _locked(path: Path, what: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        log.info("waiting for another process that makes %s", what)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def disk_error(folder: Path, error: OSError) -> MachineError:
    """The message for an operating-system error while ``folder`` is written."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return MachineError(
            f"{folder}: no space left on the disk",
            mend="free some space, or set TRITONSMITH_CACHE to a folder on a larger disk",
        )
    return MachineError(
        f"{folder}: {error.strerror or error}" + (f" ({error.filename})" if error.filename else ""),
        mend="give the cache folder write permission, or set TRITONSMITH_CACHE to another folder",
    )
