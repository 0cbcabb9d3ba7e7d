"""Objectives and constraints: what ranks before what, and what is never passed off as feasible."""

import math

import pytest

from builder.errors import UserError
from builder.sweep.load import Load
from builder.sweep.objective import Constraints, Objective, cost_per_million, judge, pooled, rank, winner
from builder.sweep.point import Interval, Point
from builder.sweep.setting import Setting

NONE = Constraints()
THROUGHPUT = Objective.parse("throughput")


def point(name: int, rate: float, p99: float, *, wide: float = 0.0, status: str = "stable", **more: object) -> Point:
    return Point(
        Setting.of({"instance_group.count": name}),
        Load(concurrency=1),
        status,  # type: ignore[arg-type]
        throughput=Interval(rate, rate * (1 - wide), rate * (1 + wide)),
        p99_ms=Interval(p99, p99 * (1 - wide), p99 * (1 + wide)),
        requests=100,
        **more,  # type: ignore[arg-type]
    )


def order(points: list[Point], objective: Objective, constraints: Constraints = NONE) -> list[object]:
    return [one.point.setting.get("instance_group.count") for one in rank(points, objective, constraints)]


def test_constraints_come_first() -> None:
    points = [point(1, 200, 131), point(2, 100, 37), point(3, 90, 20)]
    assert order(points, THROUGHPUT) == [1, 2, 3]
    assert order(points, THROUGHPUT, Constraints(p99_ms=50)) == [2, 3, 1]


def test_the_same_throughput_with_a_shorter_tail_is_better() -> None:
    points = [point(1, 131.8, 131), point(2, 131.0, 36.5)]
    assert order(points, THROUGHPUT) == [2, 1]
    assert order([point(1, 140.0, 131), points[1]], THROUGHPUT) == [1, 2]  # that is not the same


def test_an_interval_that_holds_the_limit_is_unsure_and_ranks_behind() -> None:
    unsure, met = point(1, 200, 45, wide=0.2), point(2, 100, 37)
    limit = Constraints(p99_ms=50)
    assert [judge(one, limit) for one in (unsure, met, point(3, 1, 51, wide=0.2))] == ["unsure", "met", "missed"]
    assert order([unsure, met], THROUGHPUT, limit) == [2, 1]
    assert winner(rank([unsure], THROUGHPUT, limit)) is None
    assert order([point(1, 200, 45, wide=0.1), met], THROUGHPUT, limit) == [1, 2]  # surely met


def test_other_constraints() -> None:
    one = point(1, 100, 10, errors=1, memory_mb=500.0)
    assert judge(one, Constraints(error_rate=0.005)) == "missed"
    assert judge(one, Constraints(error_rate=0.01, memory_mb=500)) == "met"
    assert judge(one, Constraints(min_throughput=101)) == "missed"
    assert judge(point(1, 100, 10, wide=0.1), Constraints(min_throughput=95)) == "unsure"
    assert judge(one, Constraints(p50_ms=5)) == "unsure"  # was not taken


@pytest.mark.parametrize("status", ["unstable", "failed", "saturated", "refused"])
def test_only_stable_points_rank(status: str) -> None:
    assert order([point(1, 1000, 1, status=status), point(2, 100, 10)], THROUGHPUT) == [2]


def test_cost() -> None:
    assert cost_per_million(0.36, 100) == pytest.approx(1.0)
    objective = Objective.parse("cost", price_per_hour=0.36)
    assert order([point(1, 100, 10), point(2, 200, 20)], objective) == [2, 1]
    assert objective.rises_with_load


def test_weights_trade_percents() -> None:
    weighted = Objective.parse({"throughput": 7, "p99_ms": 3})
    assert weighted.of({"throughput": 100, "p99_ms": 10}) == pytest.approx(0.7 * math.log(100) - 0.3 * math.log(10))
    assert order([point(1, 110, 20), point(2, 100, 10)], weighted) == [2, 1]
    assert not weighted.rises_with_load
    assert order([point(1, 110, 20), point(2, 100, 10)], Objective.parse("p99_ms")) == [2, 1]


@pytest.mark.parametrize(
    ("said", "message"),
    [("speed", "'speed' is not known"), ({"p99_ms": 0}, "not positive"), ("cost", "price"), ({}, "names no figure")],
)
def test_objectives_that_cannot_be(said: str | dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Objective.parse(said)


def test_repeated_measurements_make_one_point() -> None:
    both = [point(1, 100, 40, wide=0.2), point(1, 104, 42, wide=0.2), point(1, 1, 1, status="unstable")]
    one = pooled(both)
    assert one.figure("throughput") == pytest.approx(102)
    assert one.throughput is not None
    assert 102 - 20 < one.throughput.low < 102 - 10
    assert one.requests == 200
    apart = pooled([point(1, 100, 10), point(1, 200, 10)]).throughput  # they do not agree: 1.96 standard errors of 50
    assert apart == Interval(150, pytest.approx(52), pytest.approx(248))
    assert len(rank(both, THROUGHPUT, Constraints())) == 1
