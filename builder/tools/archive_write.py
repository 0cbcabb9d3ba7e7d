"""Packing: see :mod:`builder.tools.archive` for what an archive is."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tarfile
import tempfile
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self

from builder.artifacts import File
from builder.errors import DamagedError, disk_error
from builder.tools.archive_names import BLOCK_BYTES, LEVEL, check_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedWriter

    from builder.artifacts import Tree

log = logging.getLogger(__name__)

THREADS: Final = 2

_BUFFERS: Final = 16  # blocks that may wait for their hash while later ones are compressed
_WRITE_BACK_BYTES: Final = 16 << 20
_TALK_SECONDS: Final = 2.0
_MEGABYTE: Final = 1_000_000


def pack(tree: Tree, out: Path) -> File:
    """Packs a tree, straight from the files it refers to; memory does not grow with their size.

    Each file is hashed while it is read, and the archive while it is written: there is no second pass.

    Args:
        tree: member name → file. Names are relative POSIX paths.
        out: the archive, which appears whole or not at all; what was there before is replaced.

    Returns:
        the archive, with the sha256 and size of its compressed bytes.

    Raises:
        ArchiveError: a name cannot be a member's.
        DamagedError: a file is no longer what it was when it was hashed.
        MachineError: the disk is full or cannot be written.
    """
    for name in tree:
        check_name(name, place=f"packing {out.name}")
    try:
        return _pack(tree, out)
    except OSError as error:
        raise disk_error(out, error) from error


def _pack(tree: Tree, out: Path) -> File:
    from isal import igzip_threaded

    out.parent.mkdir(parents=True, exist_ok=True)
    total = sum(file.size for file in tree.values())
    with _replacing(out) as descriptor, _Sink(descriptor) as sink:
        # compresslevel, threads and block_size decide the bytes: see builder.tools.archive.
        with (
            igzip_threaded.open(sink, "wb", compresslevel=LEVEL, threads=THREADS, block_size=BLOCK_BYTES) as stream,
            _Blocks(stream, total) as blocks,
        ):
            _write_members(tree, blocks)
        return File(path=out.absolute(), sha256=sink.digest.hexdigest(), size=sink.size)


@contextlib.contextmanager
def _replacing(out: Path) -> Iterator[int]:
    """Yields a descriptor whose content becomes ``out`` when the block ends well, and vanishes otherwise."""
    descriptor, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        yield descriptor
        os.fchmod(descriptor, 0o644)
        os.fsync(descriptor)
        temporary.rename(out)
        _sync_folder(out.parent)
    finally:
        os.close(descriptor)
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Sink:
    """Where the compressed bytes go: hashed and written by the compressor's own writer thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._written_back = 0
        self.digest = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # A compressor that failed is closed again when it is collected, and then still writes: not into whatever file
        # has the descriptor by then.
        self._descriptor = -1

    def write(self, data: bytes) -> int:
        """Called by the compressor.

        Raises:
            OSError: the disk is full, or nobody listens any more.
        """
        self.digest.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self.size += len(data)
        if self.size - self._written_back >= _WRITE_BACK_BYTES:
            self._write_back()
        return len(data)

    def flush(self) -> None:
        """Nothing is kept back."""

    def _write_back(self) -> None:
        # On dirty pages Linux takes this as "begin to write them" (mm/fadvise.c), so that fsync has nothing left to do.
        with contextlib.suppress(OSError):
            length = self.size - self._written_back
            os.posix_fadvise(self._descriptor, self._written_back, length, os.POSIX_FADV_DONTNEED)
        self._written_back = self.size


@dataclass
class _Block:
    """A buffer of ``BLOCK_BYTES``, and the hashing that still reads it."""

    view: memoryview = field(default_factory=lambda: memoryview(bytearray(BLOCK_BYTES)))
    used: int = 0
    pending: list[Future[None]] = field(default_factory=list)

    def wait(self) -> None:
        """Waits until nobody reads the buffer.

        Raises:
            MachineError: a member that ended in it is not what it should be.
        """
        for future in self.pending:
            future.result()
        self.pending.clear()
        self.used = 0


class _Blocks:
    """Cuts what it is given into blocks of one size, and hashes members beside the compression."""

    def __init__(self, stream: BufferedWriter, total: int) -> None:
        self._stream = stream
        self._total = total  # bytes of all members, for the progress line
        self._spoke = time.monotonic()
        self._hasher = ThreadPoolExecutor(1, thread_name_prefix="hash")
        self._block = _Block()
        self._waiting: deque[_Block] = deque()
        self.size = 0  # bytes so far

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._send()
                for block in self._waiting:
                    block.wait()
        finally:
            self._hasher.shutdown(cancel_futures=True)

    def write(self, data: bytes) -> None:
        """Adds bytes of the archive itself: headers and padding."""
        rest = memoryview(data)
        while rest:
            room = self._room()
            length = min(len(rest), len(room))
            room[:length] = rest[:length]
            self._fill(length)
            rest = rest[length:]

    def read_from(self, source: IO[bytes], member: _Member) -> None:
        """Adds the content of a member: exactly as many bytes as its header says."""
        left = member.size
        while left:
            room = self._room()[:left]
            length = source.readinto(room)  # type: ignore[attr-defined]
            if not length:
                raise member.changed()
            self._block.pending.append(self._hasher.submit(member.digest.update, room[:length]))
            self._fill(length)
            left -= length
        if source.read(1):
            raise member.changed()
        self._block.pending.append(self._hasher.submit(member.check))

    def _room(self) -> memoryview:
        if self._block.used == BLOCK_BYTES:
            self._send()
        return self._block.view[self._block.used :]

    def _fill(self, length: int) -> None:
        self._block.used += length
        self.size += length

    def _send(self) -> None:
        # Past the stream's own buffer, which would only copy: a block is what the compressor takes at a time. It keeps
        # a copy, so that only the hashing still reads ours.
        self._stream.raw.write(self._block.view[: self._block.used])
        self._talk()
        self._waiting.append(self._block)
        if len(self._waiting) < _BUFFERS:
            self._block = _Block()
        else:
            self._block = self._waiting.popleft()
            self._block.wait()

    def _talk(self) -> None:
        if time.monotonic() - self._spoke > _TALK_SECONDS:
            self._spoke = time.monotonic()
            log.info("packed %d of %d MB", self.size // _MEGABYTE, self._total // _MEGABYTE)


class _Member:
    """A file that is being packed: what it must be, and what was read of it."""

    def __init__(self, name: str, file: File) -> None:
        self.name = name
        self.path = file.path
        self.size = file.size
        self.digest = hashlib.sha256()
        self._sha256 = file.sha256

    def check(self) -> None:
        """Compares the content with what it was when it was hashed.

        Raises:
            MachineError: it has changed.
        """
        if self.digest.hexdigest() != self._sha256:
            raise self.changed()

    def changed(self) -> DamagedError:
        """The error for a file that is not what it was."""
        return DamagedError(
            self.path,
            f"{self.path}: has changed while the build ran: it is not the file that was read for {self.name}",
            mend="leave the model's files alone while they are built, and build again",
        )


def _write_members(tree: Tree, blocks: _Blocks) -> None:
    for name in sorted(tree):
        member = _Member(name, tree[name])
        blocks.write(_header(name, member.size))
        with member.path.open("rb", buffering=0) as source:
            blocks.read_from(source, member)
        blocks.write(bytes(-member.size % tarfile.BLOCKSIZE))
    blocks.write(bytes(2 * tarfile.BLOCKSIZE))  # the end of the archive (POSIX.1-2017, pax)
    blocks.write(bytes(-blocks.size % tarfile.RECORDSIZE))


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)  # type REGTYPE, owner 0, time 0
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.PAX_FORMAT, encoding="utf-8", errors="strict")
