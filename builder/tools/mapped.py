"""Where the memory of an array comes from: the file that is mapped there, and the place in it."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.tools.opaque import Array


@dataclass(frozen=True, slots=True)
class _Region:
    begin: int
    end: int
    offset: int  # bytes from the start of the file
    path: str


class MappedFiles:
    """The files that this process maps at this moment (Linux: ``/proc/self/maps``)."""

    def __init__(self) -> None:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        self._regions = sorted(_regions(lines), key=lambda region: region.begin)
        self._begins = [region.begin for region in self._regions]

    def place(self, array: Array) -> tuple[str, int] | None:
        """(real path of the file, offset in bytes) of a contiguous array, or None where no file is mapped there."""
        if not array.flags.c_contiguous or not array.nbytes:
            return None
        address = array.__array_interface__["data"][0]
        index = bisect_right(self._begins, address) - 1
        if index < 0 or address + array.nbytes > self._regions[index].end:
            return None
        region = self._regions[index]
        return region.path, region.offset + address - region.begin


def _regions(lines: list[str]) -> list[_Region]:
    """Format: ``begin-end rights offset device inode path`` (proc(5)); addresses and offset in hexadecimal."""
    found = []
    for line in lines:
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("/"):
            begin, end = (int(address, 16) for address in fields[0].split("-"))
            found.append(_Region(begin, end, int(fields[2], 16), fields[5]))
    return found
