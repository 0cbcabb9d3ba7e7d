"""What this machine is made of: figures of speed belong to it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Final

from builder.errors import MachineError
from builder.tools import memory

_CGROUP: Final = Path("/sys/fs/cgroup")
_CPUS: Final = Path("/sys/devices/system/cpu")
_QUERY: Final = "name,compute_cap,memory.total,driver_version"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, as nvidia-smi describes it."""

    name: str
    compute_capability: str
    memory_mib: int
    driver: str


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine. ``usable_cpus`` is what this process may use: affinity and the container's quota included."""

    cpu: str
    cpus: int  # logical
    physical_cores: int | None
    usable_cpus: float
    memory_bytes: int  # of the machine, or of the container where that has a limit
    gpus: tuple[Gpu, ...]
    architecture: str
    kernel: str

    @property
    def fingerprint(self) -> str:
        """16 hex digits: equal for machines on which a speed may be compared. The kernel's version is not part."""
        facts = asdict(self)
        del facts["kernel"]
        # Total memory differs by a few pages between boots: whole GiB are what matters.
        facts["memory_bytes"] = round(self.memory_bytes / 2**30)
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def detect() -> Hardware:
    """Looks at this machine now, as cheaply as can be: a build that finds everything asks for it too."""
    return Hardware(
        cpu=cpu_model(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")) or platform.machine(),
        cpus=os.cpu_count() or 1,
        physical_cores=_physical_cores(),
        usable_cpus=cpus(),
        memory_bytes=memory.total(),
        gpus=gpus(),
        architecture=platform.machine(),
        kernel=platform.release(),
    )


@cache
def fingerprint() -> str:
    """The fingerprint of this machine, looked at once in a process: nvidia-smi takes its time, and recipes are many."""
    return detect().fingerprint


def cpus() -> float:
    """CPUs that this process may use now."""
    return usable_cpus(len(os.sched_getaffinity(0)), _cgroup_text("cpu.max"))


def cpu_model(cpuinfo: str) -> str:
    """The processor's name in the text of ``/proc/cpuinfo``; empty where it has none, as on many Arm machines."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return " ".join(value.split())
    return ""


def usable_cpus(affinity: int, quota: str) -> float:
    """CPUs that may be used.

    Args:
        affinity: on how many CPUs the process may run.
        quota: content of ``cpu.max`` of cgroup v2: ``max 100000`` or ``150000 100000``; may be empty.
    """
    allowed, _, period = quota.strip().partition(" ")
    if not allowed.isdigit() or not period.isdigit():
        return float(affinity)
    return min(float(affinity), int(allowed) / int(period))


def gpus() -> tuple[Gpu, ...]:
    """The GPUs that nvidia-smi knows; none where it is not installed or does not work."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    from builder.tools import process

    command = [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        completed = process.run(command, what="nvidia-smi", timeout_seconds=20)
    except MachineError:
        return ()
    return parse_gpus(completed.stdout)


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """The GPUs in nvidia-smi's CSV; lines that are not of that form are left out."""
    rows = [[part.strip() for part in line.split(",")] for line in text.splitlines()]
    return tuple(
        Gpu(row[0], row[1], int(row[2]), row[3])
        for row in rows
        if len(row) == len(_QUERY.split(",")) and row[2].isdigit()
    )


def _physical_cores() -> int | None:
    """Cores, however many threads each has: logical CPUs of one core name the same siblings."""
    cores = {path.read_text(encoding="utf-8") for path in _CPUS.glob("cpu[0-9]*/topology/core_cpus_list")}
    return len(cores) or None


def _cgroup_text(name: str) -> str:
    try:
        return (_CGROUP / name).read_text(encoding="utf-8")
    except OSError:
        return ""
