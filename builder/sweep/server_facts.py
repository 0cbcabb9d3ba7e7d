"""What a running server says of itself and what the machine says of it: time in steps, memory, GPUs."""

from __future__ import annotations

import http.client
import re
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Final

from builder.sweep.point import StepTimes
from builder.tools import hardware
from builder.tools.process_stat import ProcessStat

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from builder.artifacts import Json

_MB: Final = 1e6
_SECONDS: Final = 5.0
GPU_MILLISECONDS: Final = 250
"""How often a server should look at its GPUs: by itself it does so every two seconds, which is longer than a point."""
_GPU_SECONDS: Final = GPU_MILLISECONDS / 1000
_GPU: Final = re.compile(r'^(nv_gpu_\w+)\{[^}]*gpu_uuid="([^"]+)"[^}]*\} ([\d.eE+-]+)$', re.MULTILINE)
_SECTIONS: Final = ("queue", "compute_input", "compute_infer", "compute_output")


def memory_mb(pid: int) -> float | None:
    """Proportional set size of a process and of all in its group (the stubs of Python steps), in 10^6 bytes.

    A page that several of them share counts once. None: it has ended, or the kernel does not tell.
    """
    total = 0
    for process, _ in _group(pid):
        with suppress(OSError, LookupError, ValueError):
            total += _pss(process)
    return total / _MB if total else None


def processor_seconds(pid: int) -> float:
    """What a process and all in its group have used so far, in user and system mode; 0: it has ended."""
    return sum(stat.processor_seconds for _, stat in _group(pid))


def processor_share(seconds: float, answered: int, per_second: float) -> float | None:
    """Of the usable processors, what a server takes, 0 to 1: processor seconds of a request, times requests a second.

    So what it does before and after a load does not count as idle time. None: it answered nothing.
    """
    return seconds / answered * per_second / hardware.cpus() if answered > 0 else None


def answered(before: Mapping[str, Json], after: Mapping[str, Json]) -> int:
    """Requests that a model answered between two readings of its statistics."""
    return _duration(after, "success", "count") - _duration(before, "success", "count")


def _group(pid: int) -> Iterator[tuple[Path, ProcessStat]]:
    """Each process of a group."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, LookupError, ValueError):
            stat = ProcessStat.read(process)
            if stat.group == pid:  # builder.tools.guardian gives each child a group of its own
                yield process, stat


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


class GpuWatch:
    """Looks at a server's GPUs in a thread of its own while the block runs; where it has none, it looks once.

    Args:
        metrics_address: of the server, ``host:port``.
        every_seconds: between two looks.
    """

    def __init__(self, metrics_address: str, every_seconds: float = _GPU_SECONDS) -> None:
        self._address = metrics_address
        self._every_seconds = every_seconds
        self._seen: list[tuple[int, dict[str, dict[str, float]]]] = []  # ns since the epoch
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while found := gpus(self._address):
            self._seen.append((time.time_ns(), found))
            if self._over.wait(self._every_seconds):
                return

    def during(self, spans: Sequence[tuple[int, int]]) -> dict[str, dict[str, float]]:
        """Per GPU, the most memory and the mean utilisation while a load was on.

        Args:
            spans: from when to when one was, ns since the epoch; where none is known, all of the time counts.
        """
        seen = [found for at, found in self._seen if any(began <= at <= ended for began, ended in spans)]
        return _summary(seen or [found for _, found in self._seen])


def _summary(seen: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    values: dict[str, dict[str, list[float]]] = {}
    for found in seen:
        for gpu, figures in found.items():
            for name, value in figures.items():
                values.setdefault(gpu, {}).setdefault(name, []).append(value)
    return {
        gpu: {name: max(all_of) if name == "memory_mb" else fmean(all_of) for name, all_of in figures.items()}
        for gpu, figures in values.items()
    }


def _metrics(address: str) -> str:
    with closing(http.client.HTTPConnection(address, timeout=_SECONDS)) as connection:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode(errors="replace")


def step_times(before: Mapping[str, Json], after: Mapping[str, Json]) -> StepTimes | None:
    """Where time went between two readings of a model's statistics; None: it was not asked.

    Triton counts a request that the response cache answers as a success, but not as an inference (its statistics
    extension, *inference_count*).
    """
    inferences = _count(after, "inference_count") - _count(before, "inference_count")
    requests = answered(before, after)
    hits, misses = (
        _duration(after, section, "count") - _duration(before, section, "count")
        for section in ("cache_hit", "cache_miss")
    )
    if inferences <= 0 and hits <= 0:
        return None
    spent = {
        section: (_duration(after, section, "ns") - _duration(before, section, "ns")) / 1e6 / max(1, requests)
        for section in _SECTIONS
    }
    executions = _count(after, "execution_count") - _count(before, "execution_count")
    times = {f"{section}_ms": value for section, value in spent.items()}
    return StepTimes(inferences, executions, **times, cache_hits=hits, cache_misses=misses)


def cache_remark(steps: Mapping[str, StepTimes], rows: int) -> str:
    """What must be known of figures that the response cache has part in; empty: it has none.

    Args:
        steps: of a point.
        rows: how many different requests its load has: they were all asked before.
    """
    rate = max((times.hit_rate for times in steps.values()), default=0.0)
    said = f"{rate:.0%} of the requests were answered from the response cache: all of them are repeats of {rows}"
    return said if rate else ""


def _count(statistics: Mapping[str, Json], name: str) -> int:
    return int(statistics.get(name, 0))


def _duration(statistics: Mapping[str, Json], section: str, name: str) -> int:
    return int(statistics.get("inference_stats", {}).get(section, {}).get(name, 0))
