"""What was measured: one setting under one load."""

from __future__ import annotations

import typing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from builder.errors import InternalError
from builder.sweep import load as loads
from builder.sweep import setting as settings
from builder.sweep.load import Load  # noqa: TC001 - the codec reads the annotations
from builder.sweep.setting import Setting  # noqa: TC001

if TYPE_CHECKING:
    from builder.artifacts import Json

Status = Literal["stable", "unstable", "failed", "saturated", "refused"]
"""Of a point. Only *stable* ones rank.

* stable: its figures can be believed;
* unstable: the windows do not agree, however long it was measured; its figures are kept, but say nothing;
* failed: requests failed, or answers were wrong;
* saturated: the client, not the server, was the limit;
* refused: the server did not load the setting.
"""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, and the interval that holds it with the stated confidence (95 %)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the measurement. Latencies are milliseconds, of requests that ended in it."""

    seconds: float
    requests: int
    throughput_per_second: float  # inferences: requests * batch
    mean_ms: float
    latencies_ms: tuple[float, ...] = ()  # of each request, in the order of their ends: for percentiles over windows


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Where a request's time went in a step: milliseconds for each request, on the average, however many items it has.

    A request that the response cache answers is among them: it takes no computing, and makes no inference.
    """

    inferences: int  # items that were computed
    executions: int
    queue_ms: float
    compute_input_ms: float
    compute_infer_ms: float
    compute_output_ms: float
    cache_hits: int = 0  # requests that were answered from the response cache
    cache_misses: int = 0

    @property
    def hit_rate(self) -> float:
        """Share of the requests that the response cache was asked for, and had; 0 without one."""
        asked = self.cache_hits + self.cache_misses
        return self.cache_hits / asked if asked else 0.0


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured. Figures are None where there are none: see :data:`Status`.

    Args:
        setting: what was tried.
        load: what was sent.
        status: whether it can be believed.
        reason: why not, for people; of a stable point what else should be known, as that a cache answered.
        throughput: inferences per second: the median of the windows.
        p50_ms, p90_ms, p95_ms, p99_ms, mean_ms: latency, of all requests of all windows; intervals by bootstrap over
            windows.
        windows: what these come from.
        steps: where the time went, by the name of the model in the repository.
        client_share: processor seconds of the client, per second and usable processor: 0 to 1.
        server_share: the same of the server's processes.
        littles_law: throughput * mean latency / (concurrency * batch): 1 in a closed loop in which nothing is lost.
        memory_mb: what the server's processes hold at the end (proportional set size).
        gpu: per GPU, under the load: used memory in MB, at most; utilisation 0 to 1, on the average; empty without one.
        requests: how many were sent and answered, but for those that warmed the server up.
        errors: how many failed.
        checked: how many answers were compared with the expected ones; ``wrong`` of them differed.
        seconds: what it cost: wall time with loading.
        at: when it was measured, ISO 8601, UTC.
    """

    setting: Setting
    load: Load
    status: Status
    reason: str = ""
    throughput: Interval | None = None
    p50_ms: Interval | None = None
    p90_ms: Interval | None = None
    p95_ms: Interval | None = None
    p99_ms: Interval | None = None
    mean_ms: Interval | None = None
    windows: tuple[Window, ...] = ()
    steps: dict[str, StepTimes] = field(default_factory=dict)
    client_share: float | None = None
    server_share: float | None = None
    littles_law: float | None = None
    memory_mb: float | None = None
    gpu: dict[str, dict[str, float]] = field(default_factory=dict)
    requests: int = 0
    errors: int = 0
    checked: int = 0
    wrong: int = 0
    seconds: float = 0.0
    at: str = ""

    def figure(self, name: str) -> float | None:
        """A figure by its name in constraints and objectives: throughput, p99_ms, error_rate, memory_mb."""
        if name == "error_rate":
            sent = self.requests + self.errors
            return self.errors / sent if sent else None
        found = getattr(self, name)
        return found.value if isinstance(found, Interval) else found

    def as_json(self) -> dict[str, Json]:
        """For results.json and the record: everything but the single latencies."""
        from builder.core.codec import to_json

        data = to_json(self)
        assert isinstance(data, dict)
        windows = [{**window, "latencies_ms": []} for window in data["windows"]]
        return {**data, "setting": self.setting.as_json(), "load": self.load.as_json(), "windows": windows}


def from_json(data: dict[str, Json]) -> Point:
    """The point that :meth:`Point.as_json` wrote: without the single latencies.

    Raises:
        CodecError: it is no such point.
    """
    from builder.core import codec

    kinds = typing.get_type_hints(Point)
    try:
        plain: dict[str, Any] = {
            name: codec.from_json(kinds[name], value) for name, value in data.items() if name not in {"setting", "load"}
        }
        return Point(settings.from_json(data["setting"]), loads.from_json(data["load"]), **plain)
    except (TypeError, KeyError, AttributeError, InternalError) as error:
        raise codec.CodecError(f"no point: {error!r}") from error
