"""The folder of one build in progress: owned by one process, removed when it ends, swept when it was killed."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

_LOCK: Final = "lock"
_YOUNG_SECONDS: Final = 60.0
"""Files of this age may belong to a process that has not locked them yet."""


@contextmanager
def workspace(cache: Path) -> Iterator[Path]:
    """Yields an empty folder below ``cache/builds`` and removes it afterwards. ``cache`` is the store's folder.

    The folder holds a locked file while its owner lives: the kernel drops the lock when the process dies, however it
    dies, and the next build removes what it left.

    Raises:
        MachineError: the cache cannot be written.
    """
    builds = cache / "builds"
    try:
        builds.mkdir(parents=True, exist_ok=True)
        sweep(builds)
        folder = Path(tempfile.mkdtemp(dir=builds))
    except OSError as error:
        raise MachineError(
            f"cache folder {cache}: {error.strerror or error}",
            mend="make room or give it write permission, or set TRITONSMITH_CACHE to another folder",
        ) from error
    from filelock import FileLock

    lock = FileLock(folder / _LOCK)
    lock.acquire(timeout=0)
    try:
        work = folder / "work"
        work.mkdir()
        yield work
    finally:
        _remove(folder)
        lock.release()


def sweep(builds: Path) -> None:
    """Removes the folders and files of builds whose process is gone; those of running builds stay."""
    from filelock import FileLock, Timeout

    for folder in builds.iterdir():
        if not folder.is_dir():
            _sweep_file(folder)
            continue
        lock = FileLock(folder / _LOCK)
        try:
            # A folder without its lock file is one that another build is making at this moment.
            if not (folder / _LOCK).exists():
                continue
            with lock.acquire(timeout=0):
                log.debug("removing the folder of a build that was killed: %s", folder.name)
                _remove(folder)
        except (Timeout, OSError):
            continue


def _sweep_file(path: Path) -> None:
    """Removes a copy that was being made: whoever makes one holds a lock on it."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - os.fstat(descriptor).st_mtime > _YOUNG_SECONDS:
                path.unlink()
        finally:
            os.close(descriptor)


def _remove(folder: Path) -> None:
    # Published outputs are read-only folders: give the right to delete back first.
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
