"""The load axis: few measurements, the right load, and no trust in an axis that does not behave."""

import pytest

from builder.sweep.load import Load
from builder.sweep.objective import Constraints, Objective
from builder.sweep.point import Interval, Point
from builder.sweep.search.concurrency import Axis, monotone
from builder.sweep.search.task import Task
from builder.sweep.setting import Setting
from builder.sweep.space import Facts

LOADS = tuple(Load(concurrency=1 << power) for power in range(10))


class Axes:
    """A server whose throughput rises to a plateau; latency follows from Little's law."""

    def __init__(self, *, plateau: float = 100.0, wide: float = 0.01, odd: int | None = None) -> None:
        self.plateau, self.wide, self.odd = plateau, wide, odd
        self.asked: list[int] = []
        self.longer: list[int] = []

    def __call__(self, index: int, times: float) -> Point:
        self.asked.append(index)
        self.longer += [index] if times > 1 else []
        concurrency = LOADS[index].concurrency or 1
        rate = min(20.0 * concurrency, self.plateau)
        p99 = 1000 * concurrency / rate * (0.1 if index == self.odd else 1.0)
        wide = self.wide / times
        spread = Interval(p99, p99 * (1 - wide), p99 * (1 + wide))
        rates = Interval(rate, rate * (1 - wide), rate * (1 + wide))
        return Point(Setting(), LOADS[index], "stable", throughput=rates, p99_ms=spread)


def axis(server: Axes, objective: str | dict[str, float] = "throughput", **limits: float) -> Axis:
    task = Task((Setting(),), LOADS, Objective.parse(objective), Constraints(**limits), Facts(cores=2))
    found = Axis(task, server)
    found.search()
    return found


def best(found: Axis) -> int:
    return max((index for index in found.points if found.feasible(index)), default=-1)


@pytest.mark.parametrize(("limit", "expected"), [(49, -1), (60, 2), (100, 3), (1000, 6), (1e9, 9)])
def test_the_greatest_feasible_load(limit: float, expected: int) -> None:
    server = Axes()
    assert best(axis(server, p99_ms=limit)) == expected
    assert len(server.asked) <= 8


def test_without_a_constraint_the_knee() -> None:
    server = Axes()
    found = axis(server)
    assert min(index for index in found.points if found.score(index) >= found.score(9) - 0.03) == 3
    assert len(server.asked) <= 8


def test_other_objectives_are_climbed() -> None:
    assert min(axis(Axes(), "p99_ms").points) == 0
    weighted = axis(Axes(), {"throughput": 0.6, "p99_ms": 0.4})
    assert max(weighted.points, key=weighted.score) in {2, 3}
    low = axis(Axes(), "p99_ms", min_throughput=70)
    assert max(low.points, key=low.score) == 2


def test_what_is_unsure_is_measured_longer() -> None:
    server = Axes(wide=0.15)
    assert best(axis(server, p99_ms=90)) == 3  # 80 ms, ± 15 %: longer makes it sure
    assert server.longer == [3]
    assert best(axis(Axes(wide=0.5), p99_ms=85)) == 2  # and here it does not


def test_what_is_not_stable_gets_a_second_chance() -> None:
    steady, asked = Axes(), []

    def shaky(index: int, times: float) -> Point:
        asked.append(index)
        point = steady(index, times)
        return point if asked.count(index) > 1 else Point(Setting(), LOADS[index], "unstable")

    task = Task((Setting(),), LOADS, Objective.parse("throughput"), Constraints(p99_ms=100), Facts(cores=2))
    found = Axis(task, shaky)
    found.search()
    assert best(found) == 3
    assert all(asked.count(index) == 2 for index in asked)


def test_an_axis_that_is_not_monotone_is_listed() -> None:
    server = Axes(odd=7)
    assert best(axis(server, p99_ms=1000)) == 7
    assert sorted(server.asked) == sorted({*server.asked}) == list(range(10))
    assert monotone([Axes()(index, 1.0) for index in range(10)])


def test_a_setting_that_is_refused_is_left_at_once() -> None:
    asked: list[int] = []

    def refuse(index: int, times: float) -> Point:
        asked.append(index)
        return Point(Setting(), LOADS[index], "refused")

    for objective in ("throughput", "p99_ms"):
        asked.clear()
        task = Task((Setting(),), LOADS, Objective.parse(objective), Constraints(), Facts(cores=2))
        Axis(task, refuse).search()
        assert len(asked) <= 2
