"""Folders that appear whole or not at all."""

from __future__ import annotations

import errno
import logging
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)


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
