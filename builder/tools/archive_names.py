"""What packing and unpacking agree on: names, limits, and the words for a disk that fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from builder.errors import ArchiveError

LEVEL: Final = 1
BLOCK_BYTES: Final = 1 << 20
"""What decides the compressed bytes: see :mod:`builder.tools.archive`."""

_NAME_BYTES: Final = 255  # of one part of a path, on all usual file systems


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an archive may hold before it is taken for an attack."""

    members: int = 100_000
    total_bytes: int = 64 << 30  # unpacked


LIMITS: Final = Limits()


def check_name(name: str, *, place: str) -> None:
    """Checks the name of a member: a relative POSIX path, without ``.`` and ``..``.

    Raises:
        ArchiveError: it is not.
    """
    parts = name.split("/")
    if name.startswith("/"):
        raise ArchiveError(f"{place}: {name!r} is an absolute path; members have relative paths")
    if ".." in parts:
        raise ArchiveError(f"{place}: {name!r} leaves the archive's folder")
    if "" in parts or "." in parts or "\0" in name:
        raise ArchiveError(f"{place}: {name!r} is not a plain path")
    try:
        longest = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError as error:
        raise ArchiveError(f"{place}: {name!r} is not UTF-8") from error
    if longest > _NAME_BYTES:
        raise ArchiveError(f"{place}: {name[:60]!r}… has a part of {longest} bytes; allowed: {_NAME_BYTES}")
