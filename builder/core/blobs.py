"""Bytes by their sha256: ``<2 digits>/<62 digits>``, read-only, each of them once."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import stat
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.artifacts import File
from builder.core.digest import digest_file
from builder.core.workspace import appearing, put, remove
from builder.errors import DamagedError
from builder.tools.copying import copy_hashing

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

READ_ONLY: Final = 0o444
_NO_LINKS: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES})
_UNREADABLE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EACCES, errno.EIO})
"""A bad disk, or a folder in a file's place, is damage like any other."""


@dataclass(frozen=True, slots=True)
class Blobs:
    """A folder of blobs.

    A blob appears whole or not at all, and is never changed. Whoever brings content that is there already adopts what
    is there. What was hashed by this process is not hashed again by it.

    Args:
        folder: where they lie.
        scratch: a folder on the same file system, for what is not whole yet.
    """

    folder: Path
    scratch: Path
    _hashed: set[str] = field(default_factory=set, compare=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    def path(self, sha256: str) -> Path:
        """Where the blob lies, whether it is there or not."""
        return self.folder / sha256[:2] / sha256[2:]

    def holds(self, path: Path) -> bool:
        """Whether a path is that of a blob."""
        return path.parent.parent == self.folder

    def has(self, sha256: str, size: int) -> bool:
        """Whether the blob is there, as far as stat can tell: its size, and that nobody made it writable."""
        try:
            found = self.path(sha256).stat()
        except OSError:
            return False
        return found.st_size == size and stat.S_IMODE(found.st_mode) == READ_ONLY

    def find(self, file: File) -> File | None:
        """The file as a blob, if it is there."""
        return File(self.path(file.sha256), file.sha256, file.size) if self.has(file.sha256, file.size) else None

    def move(self, file: File) -> File:
        """Takes a file that we made over into the store: it is renamed, or removed where its content is there already.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        with file.path.open("rb") as stream:
            # On the disk before the name says so: a machine that loses power must not keep a name without content.
            os.fchmod(stream.fileno(), READ_ONLY)
            if not self.has(file.sha256, file.size):
                os.fsync(stream.fileno())
        return self._place(file.path, file)

    def copy(self, source: Path, *, expected: str | None = None) -> File:
        """Copies somebody's file, and hashes it in the same pass.

        Where the file system can, the copy shares its blocks with the original until that is written.

        Args:
            source: the file.
            expected: its sha256, where it was hashed before.

        Raises:
            DamagedError: it is no longer what it was.
            OSError: it cannot be read, or the disk is full.
        """
        self.scratch.mkdir(parents=True, exist_ok=True)
        with appearing(self.scratch):
            descriptor, name = tempfile.mkstemp(dir=self.scratch, prefix="copy-")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        temporary = Path(name)
        try:
            with source.open("rb", buffering=0) as read, os.fdopen(descriptor, "wb", buffering=0) as write:
                digest, size = copy_hashing(read.fileno(), write.fileno())
                if expected is not None and digest != expected:
                    raise changed(source)
                os.fchmod(write.fileno(), READ_ONLY)
                os.fsync(write.fileno())
            return self._place(temporary, File(temporary, digest, size))
        finally:
            temporary.unlink(missing_ok=True)

    def link(self, file: File) -> File:
        """Takes a file of ours that stays where it is (a download): by a hard link, or by a copy on another disk.

        Raises:
            DamagedError: it is no longer what it was.
            OSError: the disk is full or cannot be written.
        """
        target = self.path(file.sha256)
        if not self.has(file.sha256, file.size):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                file.path.chmod(READ_ONLY)
                remove(target)
                target.hardlink_to(file.path)
            except FileExistsError:
                log.debug("another build was first: %s", target)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                return self.copy(file.path, expected=file.sha256)
        return self._adopted(file)

    def check(self, file: File) -> None:
        """Hashes a blob before it is read, once in the life of this process.

        Raises:
            DamagedError: it is not there, or is not what its name says; then it is gone when this returns.
        """
        if file.sha256 in self._hashed and self.has(file.sha256, file.size):
            return
        path = self.path(file.sha256)
        if not self.is_whole(file.sha256):
            raise self.discard(path)
        path.chmod(READ_ONLY)
        self.trust(file.sha256)

    def is_whole(self, sha256: str) -> bool:
        """Reads a blob; whether it is there, can be read, and is what its name says.

        Raises:
            OSError: nothing can be read now, such as for too many open files.
        """
        try:
            return digest_file(self.path(sha256)) == sha256
        except OSError as error:
            if error.errno not in _UNREADABLE:
                raise
            return False

    def trust(self, sha256: str) -> None:
        """Notes that this process has seen the blob's content."""
        with self._lock:
            self._hashed.add(sha256)

    def discard(self, path: Path) -> DamagedError:
        """Removes a blob that is damaged; the error to raise."""
        if path.exists():
            log.warning("the store holds a damaged file, which is removed and made again: %s", path)
        with contextlib.suppress(OSError):
            remove(path)
        with self._lock:
            self._hashed.discard(path.parent.name + path.name)
        return DamagedError(path, f"{path}: is damaged", mend="build again: it was removed, and is made again")

    def all(self) -> Iterator[tuple[str, os.stat_result]]:
        """Every blob: its sha256 and what stat says."""
        for group in _entries(self.folder):
            for entry in _entries(Path(group.path)):
                with contextlib.suppress(FileNotFoundError):
                    yield group.name + entry.name, entry.stat(follow_symlinks=False)

    def _place(self, temporary: Path, file: File) -> File:
        target = self.path(file.sha256)
        if self.has(file.sha256, file.size):
            temporary.unlink(missing_ok=True)
            return self._adopted(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        put(temporary, target)
        self.trust(file.sha256)
        return File(target, file.sha256, file.size)

    def _adopted(self, file: File) -> File:
        target = self.path(file.sha256)
        os.utime(target)  # used now: see builder.core.collect
        return File(target, file.sha256, file.size)


def changed(path: Path) -> DamagedError:
    """The error for somebody's file that is not what it was."""
    return DamagedError(
        path,
        f"{path}: has changed while the build ran: it is not the file that was read before",
        mend="leave the model's files alone while they are built, and build again",
    )


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
