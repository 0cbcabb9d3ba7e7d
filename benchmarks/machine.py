"""What a figure depends on and a reader may know: processor, cores, memory, versions. No names, no paths."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from builder import __version__
from builder.tools import hardware

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GIB = 1 << 30


def describe(packages: Sequence[str] = (), **versions: str) -> dict[str, Any]:
    """The machine as JSON data.

    Args:
        packages: distributions of this environment whose versions count.
        versions: of anything else: ``optimum="2.1.0"``.
    """
    libc, libc_version = platform.libc_ver()
    found = hardware.detect()
    return {
        "cpu": f"{found.cpu} (family {_cpu_family()})",
        "usable_cpus": found.usable_cpus,
        "memory_gib": round(found.memory_bytes / GIB, 1),
        "linux": found.kernel.partition("-")[0],
        libc: libc_version,
        "load_average_at_start": round(psutil.getloadavg()[0], 2),
        "versions": {
            "tritonsmith": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in packages},
            **{name.replace("_", "-"): version for name, version in versions.items()},
        },
    }


def cpu_seconds(root_pid: int) -> Mapping[int, float]:
    """User and system seconds so far of a process and of each process below it, by pid."""
    root = psutil.Process(root_pid)
    seconds: dict[int, float] = {}
    for process in (root, *root.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds[process.pid] = times.user + times.system
    return seconds


def cpu_seconds_since(root_pid: int, before: Mapping[int, float]) -> float:
    """What the processes below ``root_pid`` spent since ``before`` was taken."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in cpu_seconds(root_pid).items())


def _cpu_family() -> str:
    """The processor's family: a virtual machine may leave it out of the name."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("cpu family")), "unknown")
