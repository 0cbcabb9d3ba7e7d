"""The folder of one build in progress: owned by one process, removed when it ends, swept when it was killed."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

_LOCK: Final = "lock"


@contextmanager
def workspace(store: Path) -> Iterator[Path]:
    """Yields an empty folder below ``store/builds`` and removes it afterwards.

    The folder holds a locked file while its owner lives: the kernel drops the lock when the process dies, however it
    dies, and the next build removes what it left.

    Raises:
        MachineError: the store cannot be written.
    """
    builds = store / "builds"
    try:
        builds.mkdir(parents=True, exist_ok=True)
        sweep(builds)
        with appearing(builds):
            folder = Path(tempfile.mkdtemp(dir=builds))
            lock = _locked(folder / _LOCK)
    except OSError as error:
        raise unwritable(store, error) from error
    try:
        work = folder / "work"
        work.mkdir()
        yield work
    finally:
        remove(folder)
        os.close(lock)


def unwritable(store: Path, error: OSError) -> MachineError:
    """The message for a store that cannot be written."""
    return MachineError(
        f"the store {store}: {error.strerror or error}",
        mend="make room or give it write permission, or set TRITONSMITH_CACHE to another folder",
    )


@contextmanager
def appearing(builds: Path) -> Iterator[None]:
    """Held while something comes to lie in ``builds`` and is locked: nobody sweeps in between.

    Raises:
        OSError: there is no such folder.
    """
    gate = os.open(builds, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(gate, fcntl.LOCK_SH)
        yield
    finally:
        os.close(gate)


def sweep(builds: Path) -> None:
    """Removes the folders and files of builds whose process is gone; those of running builds stay."""
    gate = os.open(builds, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in builds.iterdir():
            _sweep_one(path)
    except BlockingIOError:
        pass  # somebody appears, or sweeps, at this moment: the next build comes by again
    finally:
        os.close(gate)


def _sweep_one(path: Path) -> None:
    with suppress(OSError):
        lock = _locked(path / _LOCK if path.is_dir() else path)
        try:
            log.debug("removing what a build that was killed has left: %s", path.name)
            remove(path)
        finally:
            os.close(lock)


def _locked(path: Path) -> int:
    """A descriptor that holds a lock on a file, which is made if need be.

    Raises:
        BlockingIOError: another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def put(temporary: Path, target: Path) -> None:
    """Renames a file that is whole; what stands at its place goes, a folder too.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    try:
        temporary.rename(target)
    except IsADirectoryError:
        remove(target)
        temporary.rename(target)


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it; no error where there is nothing.

    Raises:
        OSError: it cannot be removed.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    # Published outputs are read-only folders: give the right to delete back first.
    for below in path.rglob("*"):
        if below.is_dir() and not below.is_symlink():
            below.chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)
