"""Loads that change: several levels one after the other, each a point.

* closed: so many requests in flight;
* open: so many requests per second;
* ramp: users who come one after another, as in the phases of SageMaker's Inference Recommender
  (``InitialNumberOfUsers``, ``SpawnRate`` per minute, ``DurationInSeconds``: API reference, *Phase*). A user sends a
  request, waits for the answer, and sends the next. While nobody comes, the load does not change: that is a plateau,
  and a point.

Any of them stops at the first level whose latency is above a threshold (``ModelLatencyThresholds`` there): that level
is among the points, and is the last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeVar

from builder.errors import UserError
from builder.sweep.load import Load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from builder.sweep.point import Point
    from builder.sweep.setting import Setting

_LEVELS: Final = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "mean_ms")
_EXAMPLES: Final = "closed:1,4,16, or open:50,100, or ramp:initial=1,spawn=60,duration=30; then @p95_ms<100 to stop"

_STEP: Final = 1.3
"""From one concurrency to the next."""

_Number = TypeVar("_Number", int, float)


class Measure(Protocol):
    """What measures: :meth:`builder.sweep.bench.Bench.measure`."""

    def __call__(self, setting: Setting, load: Load, seconds: float) -> Point: ...


@dataclass(frozen=True, slots=True)
class Stop:
    """Where a profile ends: at the first level whose latency is above the limit, in milliseconds."""

    figure: str
    limit_ms: float

    def holds(self, point: Point) -> bool:
        """Whether the next level may be tried; a point that has no such figure says nothing against it."""
        found = point.figure(self.figure)
        return found is None or found <= self.limit_ms


@dataclass(frozen=True, slots=True)
class Level:
    """A load, and for how many seconds it is measured; None: as long as is usual."""

    load: Load
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """Levels, in the order in which they are measured."""

    kind: Literal["closed", "open", "ramp"]
    levels: tuple[Level, ...]
    stop: Stop | None = None

    def points(
        self, measure: Measure, setting: Setting, seconds: float = 1.5, told: Callable[[Point], None] = lambda _: None
    ) -> tuple[Point, ...]:
        """Measures each level of a setting, until the end or the threshold.

        A setting that is refused, or fails, is not tried any further.

        Args:
            measure: what measures.
            setting: what is served.
            seconds: how long a level is measured where the profile does not say.
            told: called with each point as it comes.
        """
        return tuple(self._points(measure, setting, seconds, told))

    def _points(
        self, measure: Measure, setting: Setting, seconds: float, told: Callable[[Point], None]
    ) -> Iterator[Point]:
        for level in self.levels:
            point = measure(setting, level.load, level.seconds or seconds)
            told(point)
            yield point
            if point.status in {"refused", "failed"} or (self.stop is not None and not self.stop.holds(point)):
                return


def closed(concurrency: Sequence[int], like: Load, stop: Stop | None = None) -> Profile:
    """So many requests in flight; batch, protocol and shared memory are those of ``like``."""
    levels = tuple(Level(replace(like, concurrency=level, rate=None)) for level in concurrency)
    return Profile("closed", levels, stop)


def between(concurrency: Sequence[int]) -> tuple[int, ...]:
    """These concurrencies, ascending, and between each two of them steps of at most 30 %, as far as they are whole.

    A bound on latency lies at no power of two: what a search may choose from decides what it can win.
    """
    found = set(concurrency)
    for low, high in pairwise(sorted(found)):
        steps = math.ceil(math.log(high / low) / math.log(_STEP))
        found |= {round(low * (high / low) ** (step / steps)) for step in range(1, steps)}
    return tuple(sorted(found))


def open_loop(rates: Sequence[float], like: Load, stop: Stop | None = None) -> Profile:
    """So many requests a second; arrivals, batch, protocol and shared memory are those of ``like``.

    Raises:
        UserError: a rate is not above 0, or infinite.
    """
    if wrong := [rate for rate in rates if not 0 < rate < math.inf]:
        raise UserError(f"load: a rate of {wrong[0]:g} requests per second; it must be above 0, and finite")
    return Profile("open", tuple(Level(replace(like, concurrency=None, rate=rate)) for rate in rates), stop)


def ramp(
    initial_users: int, spawn_per_minute: float, duration_seconds: float, like: Load, stop: Stop | None = None
) -> Profile:
    """Users who come one after another.

    A plateau is as long as the time between two users, and a whole second at least: where they come faster, several
    come at once.

    Args:
        initial_users: at the beginning.
        spawn_per_minute: how many come each minute; 0: nobody.
        duration_seconds: of all plateaus together.
        like: batch, protocol and shared memory.
        stop: where it ends before.

    Raises:
        UserError: a number is out of its range.
    """
    known = math.isfinite(spawn_per_minute) and math.isfinite(duration_seconds)
    if not known or initial_users < 1 or spawn_per_minute < 0 or duration_seconds <= 0:
        raise UserError(
            f"ramp: initial {initial_users}, spawn {spawn_per_minute:g}, duration {duration_seconds:g}: at least 1, at "
            "least 0, more than 0; all of them finite"
        )
    plateau = min(duration_seconds, max(1.0, 60 / spawn_per_minute)) if spawn_per_minute else duration_seconds
    count = max(1, int(duration_seconds / plateau + 1e-9))
    users = [initial_users + int(spawn_per_minute * plateau * number / 60 + 1e-9) for number in range(count)]
    return Profile("ramp", tuple(Level(replace(like, concurrency=one, rate=None), plateau) for one in users), stop)


def parse(text: str, like: Load | None = None) -> Profile:
    """The profile of a command line.

    Args:
        text: ``closed:1,4,16``, ``open:50,100`` or ``ramp:initial=1,spawn=60,duration=30``; with ``@p95_ms<100`` behind
            it, it stops at the first level whose p95 is above 100 ms.
        like: arrivals, batch, protocol and shared memory; default: Poisson, 1, gRPC, none.

    Raises:
        UserError: it is none of these.
    """
    like = like or Load(concurrency=1)
    shape, _, condition = text.partition("@")
    kind, _, rest = shape.partition(":")
    stop = _stop(text, condition) if condition else None
    try:
        if kind == "closed":
            return closed([_positive(int(part)) for part in rest.split(",")], like, stop)
        if kind == "open":
            return open_loop([_positive(float(part)) for part in rest.split(",")], like, stop)
        if kind == "ramp":
            said = dict(part.split("=", 1) for part in rest.split(","))
            initial, spawn, duration = int(said.pop("initial")), float(said.pop("spawn")), float(said.pop("duration"))
            if not said:
                return ramp(initial, spawn, duration, like, stop)
    except (ValueError, KeyError):
        pass
    raise UserError(f"load {text!r}: is no profile", mend=f"write {_EXAMPLES}")


def _positive(number: _Number) -> _Number:
    if not 0 < number < math.inf:  # nor NaN
        raise ValueError(number)
    return number


def _stop(text: str, condition: str) -> Stop:
    figure, less, limit = condition.partition("<")
    try:
        if less and figure in _LEVELS:
            return Stop(figure, _positive(float(limit)))
    except ValueError:
        pass
    raise UserError(f"load {text!r}: {condition!r} is no threshold", mend=f"write one of {', '.join(_LEVELS)}, <, ms")
