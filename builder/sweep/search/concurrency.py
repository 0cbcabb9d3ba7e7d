"""The load axis of one setting: the best load that keeps to the constraints, in few measurements.

More load means more throughput, up to a knee, and more latency. Where the objective only rises with load, the best is
the greatest load that is still feasible (found by bisection), or, without a constraint that ever bites, the smallest
one that reaches the throughput of the greatest: the knee. For other objectives the score has one peak, climbed by
bisection. Both take for granted that latency rises with load: what was measured is checked against that, and
where it does not hold beyond the intervals, every load is measured.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from builder.sweep.objective import judge, pooled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.sweep.point import Point
    from builder.sweep.search.task import Task

    Probe = Callable[[int, float], Point]  # index of the load, how much longer than usual → point

KNEE: Final = 0.03
"""Throughputs that differ by no more (3 %) are on the same plateau."""

_LONGER: Final = 2.0
_NOTHING: Final = -1e9


class Axis:
    """The loads of one setting: what was measured of them, and what that says."""

    def __init__(self, task: Task, probe: Probe) -> None:
        self.task, self._probe = task, probe
        self.points: dict[int, Point] = {}
        self.refused = False

    def search(self, start: int | None = None) -> None:
        """Measures what it takes to know the best load. ``start``: where it is expected, if anybody knows."""
        last = len(self.task.loads) - 1
        if self.task.objective.rises_with_load:
            highest = self._highest(last, start)
            if highest == last and not self.refused:
                self._knee(last)
        else:
            self._peak(last)
        if not self.refused and not monotone([self.points[index] for index in sorted(self.points)]):
            for index in range(last + 1):
                self.at(index)

    def at(self, index: int) -> Point:
        """The point there; measured again where it is not stable, and longer where its interval holds a limit."""
        if index not in self.points:
            point = self._probe(index, 1.0)
            if point.status == "unstable":
                point = self._probe(index, 1.0)
            if point.status == "stable" and judge(point, self.task.constraints) == "unsure":
                point = pooled([point, self._probe(index, _LONGER)])
            self.points[index] = point
            self.refused |= point.status == "refused"
        return self.points[index]

    def feasible(self, index: int) -> bool:
        """Whether it is stable, and all constraints are surely met."""
        point = self.at(index)
        return point.status == "stable" and judge(point, self.task.constraints) == "met"

    def _highest(self, last: int, start: int | None) -> int:
        """The greatest feasible load, -1 without one: by bisection; from where it is expected, in steps that double."""
        low, high, at, step = -1, last + 1, start, 1
        while high - low > 1 and not self.refused:
            at = (low + high) // 2 if at is None else at
            low, high = (at, high) if self.feasible(at) else (low, at)
            at = None
            if start is not None and low < 0 <= high - step:
                at, step = high - step, 2 * step
            elif start is not None and high > last >= low + step:
                at, step = low + step, 2 * step
        return low

    def _knee(self, last: int) -> None:
        """The smallest load with the throughput of the plateau."""
        low, high = -1, last
        while high - low > 1:
            middle = (low + high) // 2
            plateau = max(self.score(index) for index in self.points)
            low, high = (low, middle) if self.score(middle) >= plateau - KNEE else (middle, high)

    def _peak(self, last: int) -> None:
        """The highest score: uphill from the middle."""
        low, high = 0, last
        while low < high and not self.refused:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.score(middle + 1) > self.score(middle) else (low, middle)
        if not self.refused:
            self.at(low)

    def score(self, index: int) -> float:
        """The objective's; below all of them where constraints are missed, and the lower the farther off."""
        point = self.at(index)
        score = self.task.objective.score(point)
        if score is None:
            return 2 * _NOTHING
        return score + _NOTHING * violation(point, self.task)


def violation(point: Point, task: Task) -> float:
    """How far off a point is: the sum over the missed limits of the logarithm of figure / limit."""
    total = 0.0
    for name, limit in task.constraints.limits().items():
        value = point.figure("throughput" if name == "min_throughput" else name)
        if value is not None and value > 0 and limit > 0:
            off = math.log(value / limit) * (-1 if name == "min_throughput" else 1)
            total += max(0.0, off)
        elif value is not None and value > limit:
            total += 1.0
    return total


def monotone(points: Sequence[Point]) -> bool:
    """Whether latency rises with load, as far as the intervals tell. Points in the order of their loads."""
    highest = 0.0  # the greatest lower end so far
    for point in points:
        figure = point.p99_ms if point.status == "stable" else None
        if figure is None:
            continue
        if figure.high < highest:
            return False
        highest = max(highest, figure.low)
    return True
