"""What is best: constraints first, then the objective.

A figure is an estimate with an interval, so a constraint has three answers. It is *met* where the whole interval keeps
to the limit, *missed* where the value itself does not, and *unsure* where the value keeps to the limit and the
interval reaches beyond it. Unsure is never taken for met: such a point ranks behind all that met their constraints,
and becomes met or missed when it is measured longer (:func:`pooled`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final, Literal

from builder.errors import UserError
from builder.sweep.point import Interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from builder.sweep.point import Point

Verdict = Literal["met", "unsure", "missed"]

LATENCIES: Final = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "mean_ms")
_SMALL_IS_GOOD: Final = (*LATENCIES, "cost", "memory_mb")
SAME: Final = 0.01
"""Scores that differ by no more (1 %) are the same: the lower p99 decides."""

_SECONDS_PER_HOUR: Final = 3600.0
_MILLION: Final = 1e6
SIGMAS: Final = 1.96  # half of a 95 % interval, in standard errors
ORDER: Final = {"met": 0, "unsure": 1, "missed": 2}
"""How verdicts rank."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What is to be large or small, with weights.

    The score is the weighted sum of the figures' logarithms, negative for what is to be small: 0.7 of throughput and
    0.3 of p99 means that 1 % less throughput is made up for by 2.3 % less latency, whatever their units.

    Args:
        terms: figure and weight; the weights sum to 1.
        price_per_hour: of the machine, for ``cost``: what a million inferences cost, in the price's currency.
    """

    terms: tuple[tuple[str, float], ...]
    price_per_hour: float | None = None

    @classmethod
    def parse(cls, said: str | Mapping[str, float], price_per_hour: float | None = None) -> Objective:
        """``throughput``, ``p99_ms`` (or another latency), ``cost``, ``memory_mb``; or figure → weight.

        Raises:
            UserError: no such figure, a weight that is not positive, or ``cost`` without a price.
        """
        weights = {said: 1.0} if isinstance(said, str) else dict(said)
        known = ("throughput", *_SMALL_IS_GOOD)
        for name, weight in weights.items():
            if name not in known:
                raise UserError(f"objective {name!r} is not known", mend=f"one of {', '.join(known)}")
            if not weight > 0 or not math.isfinite(weight):
                raise UserError(f"objective {name}: the weight {weight:g} is not positive")
        if not weights:
            raise UserError("the objective names no figure", mend=f"one of {', '.join(known)}")
        if "cost" in weights and not (price_per_hour and price_per_hour > 0):
            raise UserError("objective cost needs the machine's price", mend="price_per_hour: a positive number")
        total = sum(weights.values())
        return cls(tuple((name, weight / total) for name, weight in weights.items()), price_per_hour)

    @property
    def figures(self) -> tuple[str, ...]:
        """The measured figures that it needs."""
        return tuple(dict.fromkeys("throughput" if name == "cost" else name for name, _ in self.terms))

    @property
    def rises_with_load(self) -> bool:
        """Whether more load never makes it worse, as long as requests are answered: throughput and its cost."""
        return self.figures == ("throughput",)

    def of(self, figures: Mapping[str, float]) -> float | None:
        """The score of some figures: larger is better. None: one is missing."""
        score = 0.0
        for name, weight in self.terms:
            figure = figures.get("throughput" if name == "cost" else name)
            if figure is None or figure <= 0:
                return None
            # The price is a factor that all settings share: it moves every score alike.
            score += weight * math.log(figure) * (-1 if name in _SMALL_IS_GOOD and name != "cost" else 1)
        return score

    def score(self, point: Point) -> float | None:
        """Of a stable point."""
        figures = {name: point.figure(name) for name in self.figures} if point.status == "stable" else {}
        return self.of({name: value for name, value in figures.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Constraints:
    """Limits. None: there is none."""

    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    error_rate: float | None = None
    memory_mb: float | None = None
    min_throughput: float | None = None

    def limits(self) -> dict[str, float]:
        """Constraint → limit, of those that there are."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Ranked:
    """A point and what is thought of it. The score is None where it has none: it is not stable."""

    point: Point
    verdict: Verdict
    score: float | None


def cost_per_million(price_per_hour: float, throughput: float) -> float:
    """Of a machine that answers so many per second, all day."""
    return price_per_hour / _SECONDS_PER_HOUR / throughput * _MILLION


def judge(point: Point, constraints: Constraints) -> Verdict:
    """Whether the point keeps to all limits: the worst answer of all. A figure that was not taken is unsure."""
    verdicts = [_judge(point, name, limit) for name, limit in constraints.limits().items()]
    return max(verdicts, key=ORDER.__getitem__, default="met")


def _judge(point: Point, name: str, limit: float) -> Verdict:
    figure = "throughput" if name == "min_throughput" else name
    value = point.figure(figure)
    if value is None:
        return "unsure"
    found = getattr(point, figure, None)
    low, high = (found.low, found.high) if isinstance(found, Interval) else (value, value)
    if name == "min_throughput":
        value, limit, high = -value, -limit, -low
    if value > limit:
        return "missed"
    return "met" if high <= limit else "unsure"


def pooled(points: Sequence[Point]) -> Point:
    """Repeated measurements of one setting under one load as one point.

    Values are means; the intervals' half-widths shrink as those of independent estimates do, and are never less than
    what the values themselves say: 1.96 standard errors of their mean. A machine is faster in one minute than in the
    next, which no single interval knows of.
    """
    stable = [point for point in points if point.status == "stable"]
    if len(stable) <= 1:
        return stable[0] if stable else points[-1]
    named: dict[str, Any] = {
        name: interval
        for name in ("throughput", *LATENCIES)
        if (interval := _pooled([found for point in stable if (found := getattr(point, name)) is not None]))
    }
    return replace(
        stable[-1],
        **named,
        windows=tuple(window for point in stable for window in point.windows),
        requests=sum(point.requests for point in stable),
        errors=sum(point.errors for point in stable),
        seconds=sum(point.seconds for point in points),
    )


def _pooled(intervals: Sequence[Interval]) -> Interval | None:
    if not intervals:
        return None
    count, value = len(intervals), fmean(one.value for one in intervals)
    below = math.sqrt(sum((one.value - one.low) ** 2 for one in intervals)) / count
    above = math.sqrt(sum((one.high - one.value) ** 2 for one in intervals)) / count
    spread = SIGMAS * math.sqrt(sum((one.value - value) ** 2 for one in intervals) / max(1, count - 1) / count)
    return Interval(value, value - max(below, spread), value + max(above, spread))


def together(points: Iterable[Point]) -> list[Point]:
    """One point for each setting and load."""
    groups: dict[object, list[Point]] = {}
    for point in points:
        groups.setdefault((point.setting, point.load), []).append(point)
    return [pooled(group) for group in groups.values()]


def rank(points: Iterable[Point], objective: Objective, constraints: Constraints) -> tuple[Ranked, ...]:
    """Stable points, best first: those that met their constraints, then the unsure, then those that missed them.

    Among points whose scores are the same within the noise as the best of their kind, the lower p99 comes first: a
    throughput that is 1 % higher is not worth a tail that is three times as long.
    """
    return ordered(judged(point, objective, constraints) for point in together(points))


def judged(point: Point, objective: Objective, constraints: Constraints) -> Ranked:
    """A point by itself."""
    return Ranked(point, judge(point, constraints), objective.score(point))


def ordered(ranked: Iterable[Ranked]) -> tuple[Ranked, ...]:
    """What :func:`rank` does with points that are judged already."""
    stable = [one for one in ranked if one.score is not None]
    return tuple(one for kind in ORDER for one in _ordered([each for each in stable if each.verdict == kind]))


def winner(ranking: Sequence[Ranked]) -> Ranked | None:
    """The best of those that surely met their constraints."""
    return ranking[0] if ranking and ranking[0].verdict == "met" else None


def _ordered(ranked: Sequence[Ranked]) -> list[Ranked]:
    best = max((one.score for one in ranked if one.score is not None), default=0.0)

    def place(one: Ranked) -> tuple[bool, float]:
        score = one.score if one.score is not None else -math.inf
        tied = score >= best - SAME
        return not tied, (one.point.figure("p99_ms") or 0.0) if tied else -score

    return sorted(ranked, key=place)
