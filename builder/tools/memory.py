"""How much memory there is: of the machine, and of the control groups (containers) that this process is in.

A container sees the whole machine in ``/proc/meminfo``; what it may use is in its control group, or in one above that.
Both generations are read: https://docs.kernel.org/admin-guide/cgroup-v2.html#memory and cgroup-v1/memory.html.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT: Final = Path("/")


@dataclass(frozen=True, slots=True)
class _Generation:
    """Where a generation of control groups is mounted, and what its files are called."""

    mounts: tuple[str, ...]
    limit: str
    used: str
    reclaimable: str  # line of memory.stat: pages of files that the kernel gives up before it kills anybody


_FIRST: Final = _Generation(
    ("sys/fs/cgroup/memory",), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
)
_SECOND: Final = _Generation(
    ("sys/fs/cgroup", "sys/fs/cgroup/unified"), "memory.max", "memory.current", "inactive_file"
)


@dataclass(frozen=True, slots=True)
class _Group:
    """A control group with a limit."""

    limit: int
    used: int


def total(root: Path = _ROOT) -> int:
    """Bytes that this process could use if it were alone."""
    return min([_meminfo(root, "MemTotal"), *(group.limit for group in _groups(root))])


def free(root: Path = _ROOT) -> int:
    """Bytes that can still be used, without what the kernel would give up by itself (files in the page cache)."""
    return max(0, min([_meminfo(root, "MemAvailable"), *(group.limit - group.used for group in _groups(root))]))


def reset_peak() -> None:
    """Forgets how much memory this process has used at most. Where the kernel cannot, the peak stays what it was."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak() -> int:
    """Bytes of resident memory that this process has used at most since :func:`reset_peak`, mapped files included."""
    return _field(Path("/proc/self/status"), "VmHWM")


def resident() -> int:
    """Bytes of resident memory that this process uses now, mapped files included."""
    return _field(Path("/proc/self/status"), "VmRSS")


def give_back() -> None:
    """Gives memory that was freed back to the machine (glibc keeps it otherwise)."""
    import ctypes

    with contextlib.suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _meminfo(root: Path, name: str) -> int:
    return _field(root / "proc/meminfo", name)


def _field(path: Path, name: str) -> int:
    """A figure in a file of lines like ``VmRSS:  1234 kB``, in bytes.

    Raises:
        OSError: it is not there.
        LookupError: it has no such line.
    """
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise LookupError(f"{path}: no {name}")


def _groups(root: Path) -> Iterator[_Group]:
    """The control groups with a limit that this process is in: a limit holds for all below."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        generation = _FIRST if "memory" in controllers.split(",") else _SECOND if not controllers else None
        if generation is None:
            continue
        place = Path(path.lstrip("/"))
        for mount in generation.mounts:
            # In a container the path may be the host's, of which only the last folder is mounted: as the root.
            for folder in (place, *place.parents):
                group = _group(root / mount / folder, generation)
                if group is not None:
                    yield group


def _group(folder: Path, generation: _Generation) -> _Group | None:
    limit = _text(folder / generation.limit).strip()
    if not limit.isdigit():  # "max", or the root
        return None
    used = _text(folder / generation.used).strip()
    reclaimable = [
        int(line.split()[1])
        for line in _text(folder / "memory.stat").splitlines()
        if line.split(" ")[0] == generation.reclaimable
    ]
    return _Group(int(limit), max(0, int(used or 0) - sum(reclaimable)))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
