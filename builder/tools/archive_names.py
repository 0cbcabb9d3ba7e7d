"""What packing and unpacking agree on: names, limits, and the words for a disk that fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.errors import ArchiveError, BombError

if TYPE_CHECKING:
    from pathlib import Path

LEVEL: Final = 1
BLOCK_BYTES: Final = 1 << 20
"""What decides the compressed bytes: see :mod:`builder.tools.archive`."""

PACKED: Final = "A1"
PLAIN_FILES: Final = "A11"
"""Rules of lint, by their ids: an archive is a tar packed with gzip; it holds plain files and folders below its own."""

_NAME_BYTES: Final = 255  # of one part of a path, on all usual file systems


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an archive may hold before it is taken for an attack."""

    members: int = 100_000
    total_bytes: int = 64 << 30  # unpacked
    ratio: int = 200  # unpacked to packed: weights reach 2, texts 10, and gzip at most 1032
    harmless_bytes: int = 1 << 30  # unpacked, whatever the ratio
    nested_bytes: int = 64 << 20  # the same, of the begin of an archive in it

    def check(self, archive: Path, members: int, total_bytes: int) -> None:
        """Checks what the headers of an archive have stated so far, before any of it is unpacked.

        Args:
            archive: the file.
            members: how many there were.
            total_bytes: of all of them.

        Raises:
            BombError: it is more than these limits.
        """
        if members > self.members or total_bytes > self.total_bytes:
            raise BombError(
                f"{archive}: holds more than {self.members} members or {self.total_bytes} bytes",
                mend=_LESS,
                rule=PLAIN_FILES,
            )
        packed = archive.stat().st_size
        if total_bytes > max(self.harmless_bytes, self.ratio * packed):
            raise BombError(
                f"{archive}: {packed} bytes that unpack to {total_bytes} or more: {self.ratio} times as much is "
                "allowed",
                mend=_LESS,
                rule=PLAIN_FILES,
            )


LIMITS: Final = Limits()
_LESS: Final = "pack what the models need, and nothing else"


def check_name(name: str, *, place: str) -> None:
    """Checks the name of a member: a relative POSIX path, without ``.`` and ``..``.

    Raises:
        ArchiveError: it is not.
    """
    parts = name.split("/")
    if name.startswith("/"):
        raise ArchiveError(f"{place}: {name!r} is an absolute path; members have relative paths", rule=PLAIN_FILES)
    if ".." in parts:
        raise ArchiveError(f"{place}: {name!r} leaves the archive's folder", rule=PLAIN_FILES)
    if "" in parts or "." in parts or "\0" in name:
        raise ArchiveError(f"{place}: {name!r} is not a plain path", rule=PLAIN_FILES)
    try:
        longest = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError as error:
        raise ArchiveError(f"{place}: {name!r} is not UTF-8", rule=PLAIN_FILES) from error
    if longest > _NAME_BYTES:
        raise ArchiveError(
            f"{place}: {name[:60]!r}… has a part of {longest} bytes; allowed: {_NAME_BYTES}", rule=PLAIN_FILES
        )
