"""A model of the server, from a few measurements: what a setting will do under a load.

A batch of ``b`` items on an instance with ``t`` threads takes ``alone[t] * (1 - share + share * b)`` ms by itself:
``share`` is the part that grows with the batch. Other instances that run at the same time slow it down: by
``crowd[t]`` as long as all of their threads have a core, and by the power ``fight`` of threads per core beyond that.
A request spends ``overhead`` outside of all models, and ``front`` in the steps before the main one. Each of these is
found from one measurement that depends on it most: the parameter is moved until the simulation agrees with it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from builder.sweep.search.simulate import Scheduler, Server, simulate
from builder.sweep.space import COUNT, DELAY, MAX_BATCH_SIZE, PREFERRED, THREADS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from builder.sweep.load import Load
    from builder.sweep.point import Point
    from builder.sweep.search.simulate import Outcome
    from builder.sweep.setting import Setting, Value
    from builder.sweep.space import Facts

_STEPS: Final = 4  # of each calibration
_SPREAD_RANKS: Final = 20
_UNIT: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Reading:
    """What of a setting the simulation knows."""

    instances: int
    threads: int
    scheduler: Scheduler
    build: Setting
    before: int = 1  # requests that the steps before the model take at the same time

    @classmethod
    def of(cls, setting: Setting, facts: Facts) -> Reading:
        """A setting's, with the subject's own values where it says nothing."""
        values = {**facts.own, **setting.as_dict()}
        count = _number(values.get(COUNT), 1)
        largest = _number(values.get(MAX_BATCH_SIZE), facts.max_batch_sizes.get("", 1))
        gathers, preferred = facts.gathers(setting.as_dict()), setting.get(PREFERRED)
        scheduler = Scheduler(
            count,
            max(largest, 1) if gathers else 1,
            _number(values.get(DELAY), 0) * _UNIT if gathers else 0.0,
            preferred if isinstance(preferred, tuple) and gathers else (),
        )
        before = [_number(value, 1) for knob, value in values.items() if knob.endswith(f":{COUNT}")]
        threads = _number(values.get(THREADS), 0) or facts.cores
        return cls(count, threads, scheduler, setting.build, min(before, default=1))


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The parameters; see the module's docstring. ``speed``: of a build, how many times longer all takes."""

    facts: Facts
    alone_ms: Mapping[int, float] = field(default_factory=dict)
    share: float = 0.9
    crowd: Mapping[int, float] = field(default_factory=dict)
    fight: float = 1.5
    overhead_ms: float = 0.5
    front_ms: float = 0.0
    spread: tuple[float, ...] = (1.0,)
    speed: Mapping[Setting, float] = field(default_factory=dict)

    def predict(self, setting: Setting, load: Load, *, requests: int = 200) -> Outcome:
        """What the simulation makes of it."""
        reading = Reading.of(setting, self.facts)
        many = requests if load.rate else max(requests, 8 * (load.concurrency or 1))
        return simulate(self.server(reading, load), load, requests=many)

    def server(self, reading: Reading, load: Load) -> Server:
        """The simulation's server. Without dynamic batching, a batch is what a client sends."""
        alone = self.alone(reading.threads) * self.speed.get(reading.build, 1.0)
        scheduler = reading.scheduler
        if scheduler.largest < load.batch:
            scheduler = replace(scheduler, largest=load.batch)

        def service_ms(items: int, running: int) -> float:
            return alone * (1 - self.share + self.share * items) * self.slower(reading.threads, running)

        return Server(scheduler, service_ms, self.overhead_ms, self.front_ms, reading.before, self.spread)

    def alone(self, threads: int) -> float:
        """One item on one instance, ms; between and beyond what was measured, in logarithms."""
        known = sorted(self.alone_ms)
        if not known:
            return 10.0
        if threads in self.alone_ms or len(known) == 1:
            return self.alone_ms.get(threads, self.alone_ms[known[0]])
        above = next((place for place, value in enumerate(known) if value > threads), len(known) - 1)
        low, high = known[max(above - 1, 0)], known[max(above, 1)]
        slope = math.log(self.alone_ms[high] / self.alone_ms[low]) / math.log(high / low)
        return float(self.alone_ms[low] * (threads / low) ** slope)

    def slower(self, threads: int, running: int) -> float:
        """How many times longer a batch takes when so many run at the same time."""
        if running <= 1:
            return 1.0
        cores = max(self.facts.cores, threads)
        wanted = running * threads
        beside = min(1.0, (min(wanted, cores) - threads) / max(1, cores - 1))
        return float((1 + (self.crowded(threads) - 1) * beside) * max(1.0, wanted / cores) ** self.fight)

    def crowded(self, threads: int) -> float:
        """``crowd`` of the nearest number of threads that was measured."""
        nearest = min(self.crowd, key=lambda known: abs(known - threads), default=0)
        return self.crowd.get(nearest, 1.0)

    def fitted(self, purpose: str, point: Point) -> Calibrated:
        """With the parameter moved that this measurement was for, one of :data:`PURPOSES`."""
        model = self
        for _ in range(_STEPS):
            outcome = model.predict(point.setting, point.load)
            model = _FITS[purpose](model, point, outcome)
        return model


def _alone(model: Calibrated, point: Point, outcome: Outcome) -> Calibrated:
    threads = Reading.of(point.setting, model.facts).threads
    before = model.alone(threads)
    return replace(model, alone_ms={**model.alone_ms, threads: before * _too_fast(point, outcome)})


def _share(model: Calibrated, point: Point, outcome: Outcome) -> Calibrated:
    return replace(model, share=_within(model.share * _too_fast(point, outcome), 0.01, 1.5))


def _crowd(model: Calibrated, point: Point, outcome: Outcome) -> Calibrated:
    threads = Reading.of(point.setting, model.facts).threads
    crowded = _within(model.crowded(threads) * _too_fast(point, outcome), 1.0, 20.0)
    return replace(model, crowd={**model.crowd, threads: crowded})


def _fight(model: Calibrated, point: Point, outcome: Outcome) -> Calibrated:
    reading = Reading.of(point.setting, model.facts)
    per_core = reading.instances * reading.threads / max(model.facts.cores, reading.threads)
    if per_core <= 1:
        return model
    more = math.log(_too_fast(point, outcome)) / math.log(per_core)
    return replace(model, fight=_within(model.fight + more, 0.0, 6.0))


def _overhead(model: Calibrated, point: Point, outcome: Outcome) -> Calibrated:
    measured = point.figure("mean_ms") or point.figure("p50_ms") or outcome.figure("mean_ms")
    off = measured - outcome.figure("mean_ms")
    front = sum(point.steps[name].compute_infer_ms for name in model.facts.before if name in point.steps)
    overhead = max(0.0, model.overhead_ms + off + model.front_ms - front)
    return replace(model, overhead_ms=overhead, front_ms=front, spread=spread_of(point))


def _speed(model: Calibrated, point: Point, outcome: Outcome) -> Calibrated:
    build = point.setting.build
    speed = model.speed.get(build, 1.0) * _too_fast(point, outcome)
    return replace(model, speed={**model.speed, build: speed})


_FITS: Final[Mapping[str, Callable[[Calibrated, Point, Outcome], Calibrated]]] = {
    "alone": _alone,
    "share": _share,
    "crowd": _crowd,
    "fight": _fight,
    "overhead": _overhead,
    "speed": _speed,
}
PURPOSES: Final = tuple(_FITS)


def spread_of(point: Point) -> tuple[float, ...]:
    """Factors of service times from the percentiles of a load of one request at a time; their mean is 1."""
    marks = [(0.5, point.p50_ms), (0.9, point.p90_ms), (0.95, point.p95_ms), (0.99, point.p99_ms)]
    known = [(rank, found.value) for rank, found in marks if found is not None and found.value > 0]
    if len(known) < 2:
        return (1.0,)
    least = (0.0, 2 * known[0][1] - known[1][1] if 2 * known[0][1] > known[1][1] else 0.9 * known[0][1])
    line = [least, *known, (1.0, known[-1][1])]
    values = [_on(line, (index + 0.5) / _SPREAD_RANKS) for index in range(_SPREAD_RANKS)]
    mean = sum(values) / len(values)
    return tuple(value / mean for value in values)


def _on(line: list[tuple[float, float]], rank: float) -> float:
    for (left, low), (right, high) in itertools.pairwise(line):
        if rank <= right:
            return low + (high - low) * (rank - left) / max(right - left, 1e-9)
    return line[-1][1]


def _too_fast(point: Point, outcome: Outcome) -> float:
    """How many times too fast the simulation was, a factor of at most 4 at once."""
    measured = point.figure("throughput") or outcome.throughput
    return _within(outcome.throughput / measured, 0.25, 4.0)


def _within(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _number(value: Value, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default
