"""What the report says of points: which are on the front, which count, and why the others do not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import pytest

from builder.sweep.load import Load
from builder.sweep.point import Interval, Point, Status
from builder.sweep.report import rows
from builder.sweep.setting import Setting
from builder.sweep.swept import Aim, Tried
from tests.sweep import points

if TYPE_CHECKING:
    from builder.sweep.swept import Swept


def tried(throughput: float, p99: float, *, name: int = 0, status: Status = "stable", verdict: str = "met") -> Tried:
    def about(value: float) -> Interval:
        return Interval(value, value * 0.98, value * 1.02)

    setting = Setting.of({"max_batch_size": name})
    point = Point(setting, Load(concurrency=1), status, "why", throughput=about(throughput), p99_ms=about(p99))
    return Tried(point, verdict, score=throughput if status == "stable" else None)  # type: ignore[arg-type]


def of(*found: Tried, **changes: object) -> Swept:
    ranking = tuple(one for one in found if one.score is not None)
    return replace(points.swept(count=1), tried=found, ranking=ranking, as_it_is=None, **changes)  # type: ignore[arg-type]


def test_the_front_is_what_nothing_beats_in_both() -> None:
    found = [tried(100, 50, name=1), tried(90, 60, name=2), tried(80, 20, name=3), tried(80, 30, name=4)]
    front = rows.pareto_front([*found, tried(500, 1, name=5, status="unstable")])
    assert front == {found[0].what, found[2].what}
    assert rows.pareto_front([]) == set()


def test_of_equal_throughputs_the_lower_p99_is_on_the_front() -> None:
    found = [tried(100, 50, name=1), tried(100, 40, name=2)]
    assert rows.pareto_front(found) == {found[1].what}


@pytest.mark.parametrize("status", sorted(set(get_args(Status)) - {"stable"}))
def test_only_stable_points_have_figures(status: Status) -> None:
    (row,) = rows.points(of(tried(100, 50, status=status)))
    assert row["state"] == status
    assert row["reason"] == "why"
    assert row["rank"] is None
    assert not row["front"]
    assert not {"throughput", "p99_ms", "memory_mb", "cost"} & row.keys()
    (step,) = rows.path(of(tried(100, 50, status=status)))
    assert step["aim"] is None
    assert step["best"] is None


def test_the_best_so_far_is_of_those_that_surely_meet_the_constraints() -> None:
    found = (
        tried(50, 10, name=1),
        tried(99, 99, name=2, verdict="missed"),
        tried(80, 59, name=3, verdict="unsure"),
        tried(70, 10, name=4),
        tried(60, 10, name=5),
    )
    assert [row["best"] for row in rows.path(of(*found))] == [50, 50, 50, 70, 70]


def test_the_path_shows_the_figure_that_is_sought() -> None:
    swept = of(tried(50, 10))
    assert [rows.path(replace(swept, aim=aim))[0]["aim"] for aim in (
        Aim({"p99_ms": 1.0}), Aim({"cost": 1.0}, price_per_hour=0.18), Aim({"throughput": 0.5, "p99_ms": 0.5})
    )] == [10, pytest.approx(1.0), 50]  # fmt: skip


def test_reasons_name_the_constraint_and_how_far_it_was_missed() -> None:
    swept = replace(of(), constraints={"p99_ms": 60.0, "min_throughput": 100.0, "memory_mb": 10.0})
    missed = tried(99, 61, verdict="missed")
    assert rows.reason(swept, missed) == "p99 61 > 60; throughput 99 < 100; memory is not known"
    assert rows.reason(swept, tried(101, 59, verdict="unsure")).startswith(
        "p99 59, interval to 60.18, limit 60; throughput 101"
    )
    assert rows.reason(swept, tried(200, 10)) == ""


def test_a_setting_that_was_measured_twice_is_one_row() -> None:
    one = tried(50, 10, name=1)
    swept = replace(of(one, tried(60, 10, name=2), one), ranking=(one,))
    found = rows.points(swept)
    assert [(row["n"], row["times"]) for row in found] == [(1, 2), (2, 1)]
    assert len(rows.path(swept)) == 3


def test_what_the_search_did_not_rank_has_no_rank() -> None:
    """A load that only calibrated the search was not asked for."""
    asked, other = tried(50, 10, name=1), tried(90, 10, name=2)
    swept = replace(of(asked, other), ranking=(asked,))
    assert [(row["throughput"], row["rank"]) for row in rows.points(swept)] == [(50, 1), (90, None)]
    assert [row["best"] for row in rows.path(swept)] == [50, 50]


def test_the_closer_look_has_each_setting_once_and_the_subject_as_it_is() -> None:
    swept = points.swept()
    shown = rows.shown(swept, most=4)
    assert shown[0] is swept.as_it_is
    assert shown[1] is swept.winner
    assert len({one.point.setting for one in shown}) == len(shown) == 4
    assert rows.name(swept, shown[0]) == "#1 as it is"


def test_an_axis_has_every_value_that_was_measured() -> None:
    swept = replace(of(tried(50, 10, name=4), tried(60, 10, name=16)), knobs={"max_batch_size": (8, 16), "gone": (1,)})
    assert rows.axes(swept) == {"max_batch_size": (4, 8, 16), "gone": (None, 1)}
    assert [row["k0"] for row in rows.points(swept)] == ["4", "16"]
