"""The folder of one build in progress: owned by one process, removed when it ends, swept when it was killed."""

from __future__ import annotations

import logging
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from builder.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

_LOCK = "lock"


@contextmanager
def workspace(cache: Path) -> Iterator[Path]:
    """Yields an empty folder below ``cache/builds`` and removes it afterwards.

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
    """Removes the folders of builds whose process is gone; those of running builds stay."""
    for folder in builds.iterdir():
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


def _remove(folder: Path) -> None:
    # Published outputs are read-only folders: give the right to delete back first.
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
