"""What a running server says of itself and what the machine says of it: time in steps, memory, GPUs."""

from __future__ import annotations

import http.client
import re
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.sweep.point import StepTimes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import Json

_MB: Final = 1e6
_SECONDS: Final = 5.0
_GPU: Final = re.compile(r'^(nv_gpu_\w+)\{[^}]*gpu_uuid="([^"]+)"[^}]*\} ([\d.eE+-]+)$', re.MULTILINE)
_SECTIONS: Final = ("queue", "compute_input", "compute_infer", "compute_output")


def memory_mb(pid: int) -> float | None:
    """Proportional set size of a process and of all in its group (the stubs of Python steps), in 10^6 bytes.

    A page that several of them share counts once. None: it has ended, or the kernel does not tell.
    """
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, LookupError, ValueError):
            fields = (process / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            if int(fields[2]) == pid:  # the process group: builder.tools.guardian gives each child its own
                total += _pss(process)
    return total / _MB if total else None


def _pss(process: Path) -> int:
    for line in (process / "smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def gpus(metrics_address: str) -> dict[str, dict[str, float]]:
    """By GPU, what the server's metrics tell: memory_mb (10^6 bytes) and utilisation, 0 to 1; empty without a GPU."""
    found: dict[str, dict[str, float]] = {}
    with suppress(OSError, http.client.HTTPException):
        for name, gpu, value in _GPU.findall(_metrics(metrics_address)):
            if name == "nv_gpu_memory_used_bytes":
                found.setdefault(gpu, {})["memory_mb"] = float(value) / _MB
            elif name == "nv_gpu_utilization":
                found.setdefault(gpu, {})["utilization"] = float(value)
    return found


def _metrics(address: str) -> str:
    with closing(http.client.HTTPConnection(address, timeout=_SECONDS)) as connection:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode(errors="replace")


def step_times(before: Mapping[str, Json], after: Mapping[str, Json]) -> StepTimes | None:
    """Where time went between two readings of a model's statistics; None: it was not asked."""
    inferences = _count(after, "inference_count") - _count(before, "inference_count")
    if inferences <= 0:
        return None
    requests = _duration(after, "success", "count") - _duration(before, "success", "count")
    spent = {
        section: (_duration(after, section, "ns") - _duration(before, section, "ns")) / 1e6 / max(1, requests)
        for section in _SECTIONS
    }
    executions = _count(after, "execution_count") - _count(before, "execution_count")
    return StepTimes(inferences, executions, **{f"{section}_ms": value for section, value in spent.items()})


def _count(statistics: Mapping[str, Json], name: str) -> int:
    return int(statistics.get(name, 0))


def _duration(statistics: Mapping[str, Json], section: str, name: str) -> int:
    return int(statistics.get("inference_stats", {}).get(section, {}).get(name, 0))
