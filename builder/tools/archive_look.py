"""What an archive holds, the bad members too: nothing is written, and of large files only the begin is kept."""

from __future__ import annotations

import io
import tarfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, TypeAlias, cast

from builder.errors import ArchiveError, ModelError, disk_error
from builder.tools.archive_names import LIMITS, Limits
from builder.tools.archive_read import opened
from builder.tools.onnx_header import read_onnx_stream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from builder.tools.onnx_facts import OnnxHeader

GZIP_MAGIC: Final = b"\x1f\x8b"

FILE: Final = "file"
FOLDER: Final = "folder"
SYMLINK: Final = "symbolic link"
HARD_LINK: Final = "hard link"
DEVICE: Final = "device, pipe or sparse file"

Keep: TypeAlias = "Callable[[str, int], int]"
"""Name and size of a member → how many of its first bytes to keep."""

_KEPT_BYTES: Final = 256 << 20  # of all members together
_BEGIN_BYTES: Final = 32 << 20  # unpacked, of an archive in an archive
_BLOCK_BYTES: Final = 1 << 20
_KINDS: Final = {
    tarfile.REGTYPE: FILE,
    tarfile.AREGTYPE: FILE,
    tarfile.DIRTYPE: FOLDER,
    tarfile.SYMTYPE: SYMLINK,
    tarfile.LNKTYPE: HARD_LINK,
}


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an archive, whatever it is.

    Args:
        name: as it stands in the archive.
        kind: FILE, FOLDER, SYMLINK, HARD_LINK or DEVICE.
        size: bytes of a file.
        target: of a link.
        head: the first bytes of a file, as many as were asked for.
        onnx: the header of an ONNX file, or why it cannot be read; None for other files.
        mode: permission bits.
        owner: user and group id.
        mtime_seconds: since 1970.
    """

    name: str
    kind: str
    size: int
    target: str
    head: bytes
    onnx: OnnxHeader | ModelError | None
    mode: int
    owner: tuple[int, int]
    mtime_seconds: float


@dataclass(frozen=True, slots=True)
class Look:
    """An archive.

    Args:
        gzipped: whether it is a ``.tar.gz``; else a ``.tar``.
        gzip_mtime_seconds: the time in gzip's header; 0 where none is stated.
        members: in the archive's order; a name may be there twice.
    """

    gzipped: bool
    gzip_mtime_seconds: int
    members: tuple[Member, ...]


def look(archive: Path, keep: Keep, *, limits: Limits = LIMITS) -> Look:
    """Reads an archive from begin to end, once.

    Args:
        archive: a ``.tar.gz`` or ``.tar``, from anybody.
        keep: what to keep of each member.
        limits: how much it may hold, unpacked.

    Raises:
        ArchiveError: it is missing, damaged, cut off, no such archive, or holds more than ``limits``.
        MachineError: it cannot be read.
    """
    try:
        with archive.open("rb") as stream:
            head = stream.read(10)
        gzipped = head.startswith(GZIP_MAGIC)
        with opened(archive, plain=not gzipped) as tar:
            members = _members(archive, tar, keep, limits)
    except FileNotFoundError as error:
        raise ArchiveError(f"{archive}: cannot be read: {error.strerror}", mend="check the path") from error
    except OSError as error:
        raise disk_error(archive, error) from error
    return Look(gzipped, int.from_bytes(head[4:8], "little") if gzipped else 0, members)


def _members(archive: Path, tar: tarfile.TarFile, keep: Keep, limits: Limits) -> tuple[Member, ...]:
    members: list[Member] = []
    total = kept = 0
    for info in tar:
        total += max(info.size, 0)
        limits.check(archive, len(members) + 1, total)
        member = _member(archive, tar, info, keep(info.name, info.size))
        kept += len(member.head)
        if kept > _KEPT_BYTES:
            raise ArchiveError(f"{archive}: holds more than {_KEPT_BYTES} bytes of configs and Python files")
        members.append(member)
    return tuple(members)


def _member(archive: Path, tar: tarfile.TarFile, info: tarfile.TarInfo, keep: int) -> Member:
    kind = _KINDS.get(info.type, DEVICE)
    if any(key.startswith("GNU.sparse") for key in info.pax_headers):
        kind = DEVICE
    head, onnx = b"", None
    if kind == FILE and (source := tar.extractfile(info)) is not None:
        if info.name.endswith(".onnx"):
            onnx = _onnx(cast("BinaryIO", source), info.size, f"{archive}:{info.name}")
        elif keep > 0:
            head = source.read(keep)
    target = info.linkname if kind in {SYMLINK, HARD_LINK} else ""
    owner = (info.uid, info.gid)
    return Member(info.name, kind, info.size, target, head, onnx, info.mode, owner, float(info.mtime))


def _onnx(source: BinaryIO, size: int, place: str) -> OnnxHeader | ModelError:
    try:
        return read_onnx_stream(source, size, place=place, operators=True, can_seek=False)
    except ModelError as error:
        return error


def swells(head: bytes, *, limits: Limits = LIMITS) -> bool:
    """Whether the begin of a gzip file unpacks to more than any archive may: somebody unpacks it in its turn.

    Args:
        head: of a file that a model holds, say of a packed Python environment, which the server unpacks.
        limits: ``ratio`` and ``nested_bytes`` of them.
    """
    if not head.startswith(GZIP_MAGIC):
        return False
    left = max(limits.nested_bytes, limits.ratio * len(head))
    unpacker, rest = zlib.decompressobj(wbits=31), head
    try:
        while rest and left > 0 and not unpacker.eof:
            left -= len(unpacker.decompress(rest, min(left, _BLOCK_BYTES)))
            rest = unpacker.unconsumed_tail
    except zlib.error:
        return False  # other rules look at what it is
    return left <= 0


def first_names(head: bytes) -> tuple[str, ...]:
    """The names of the members in the begin of a ``.tar.gz`` or ``.tar``, as far as it goes; empty if it is neither."""
    names: list[str] = []
    try:
        content = zlib.decompressobj(wbits=31).decompress(head, _BEGIN_BYTES) if head.startswith(GZIP_MAGIC) else head
        with tarfile.open(fileobj=io.BytesIO(content), mode="r|") as tar:
            names.extend(info.name for info in tar)
    except (tarfile.TarError, zlib.error, EOFError, ValueError, RecursionError):
        pass  # it is cut off, as it was given
    return tuple(names)
