"""Copies a file and hashes it in one pass; large files without a detour through the page cache."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Final

LARGE_BYTES: Final = 256 << 20
"""From here on a copy is written past the page cache: it is not read soon, and what is read soon stays there."""

_BLOCK_BYTES: Final = 1 << 20
_LARGE_BLOCK_BYTES: Final = 8 << 20
_ALIGNMENT: Final = 4096  # of lengths and addresses, for O_DIRECT: open(2)
_CLONE: Final = 0x40049409  # FICLONE of linux/fs.h: both files share their blocks until one of them is written


def copy_hashing(source: int, target: int, large_bytes: int = LARGE_BYTES) -> tuple[str, int]:
    """Copies between two open files; sha256 and size of what was copied.

    Where the file system can, the copy shares its blocks with the original until one of them is written. Where it can
    not, a large one is written with ``O_DIRECT``: gigabytes of fresh pages for a copy that nobody reads cost more
    processor time than hashing it, and push out what others read.

    Args:
        source: the file that is read.
        target: an empty file.
        large_bytes: what is large.

    Raises:
        OSError: the source cannot be read, or the disk is full.
    """
    cloned = _cloned(source, target)
    is_large = not cloned and os.fstat(source).st_size >= large_bytes
    digest, size = hashlib.sha256(), 0
    # Memory of its own begins at a page.
    buffer = memoryview(mmap.mmap(-1, _LARGE_BLOCK_BYTES if is_large else _BLOCK_BYTES))
    # Of a clone the copy is hashed: the original may change meanwhile.
    read_from = target if cloned else source
    with ThreadPoolExecutor(1) as beside:
        while length := os.preadv(read_from, [buffer], size):
            block = buffer[:length]
            hashed = beside.submit(digest.update, block)  # neither this nor writing holds Python's lock
            if not cloned:
                is_large = is_large and length % _ALIGNMENT == 0 and _write_direct(target, block)
                if not is_large:
                    _write(target, block)
            hashed.result()
            size += length
    return digest.hexdigest(), size


def _write_direct(target: int, block: memoryview) -> bool:
    """Writes a block past the page cache; False, and nothing is written, where the file system cannot."""
    flags = fcntl.fcntl(target, fcntl.F_GETFL)
    try:
        fcntl.fcntl(target, fcntl.F_SETFL, flags | os.O_DIRECT)
        written = os.write(target, block)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    finally:
        fcntl.fcntl(target, fcntl.F_SETFL, flags)
    _write(target, block[written:])
    return True


def _write(target: int, block: memoryview) -> None:
    while block:
        block = block[os.write(target, block) :]


def _cloned(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _CLONE, source)
    except OSError:
        return False
    return True
