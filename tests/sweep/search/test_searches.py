"""Searches on a server that is not there: how near guided comes to the optimum, and what it costs."""

from __future__ import annotations

import random
from functools import cache
from statistics import fmean
from typing import TYPE_CHECKING

import pytest

from builder.errors import UserError
from builder.sweep.objective import Constraints, Objective
from builder.sweep.search import guided, search
from builder.sweep.search.calibration import calibrated, questions
from builder.sweep.search.task import Task
from tests.sweep.search.oracle import FACTS, LOADS, SPACE, Oracle, truth

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.sweep.load import Load
    from builder.sweep.point import Point
    from builder.sweep.search.simulate import Outcome
    from builder.sweep.search.task import Found
    from builder.sweep.setting import Setting

SEEDS = range(3)
SETTINGS = SPACE.settings()
LIMIT = Constraints(p99_ms=12)


def task(seed: int, *, constraints: Constraints = LIMIT, budget_seconds: float | None = None) -> Task:
    objective = Objective.parse("throughput")
    return Task(SETTINGS, LOADS, objective, constraints, FACTS, seed=seed, budget_seconds=budget_seconds)


def quiet(point: Point, best: Point | None, left_seconds: float | None, said: str, /) -> None:
    pass


def quality(found: Found) -> float:
    """The winner's throughput without noise; 0 without a winner."""
    best = found.winner
    return truth(best.point.setting, best.point.load)["throughput"] if best else 0.0


@cache
def exhaustive() -> tuple[float, float]:
    """Throughput of the best of all, and the seconds that it took to find it."""
    server = Oracle()
    return quality(search("exhaustive", task(0), server, quiet)), server.seconds


@cache
def guided_run(seed: int) -> tuple[Found, Oracle]:
    server = Oracle(seed)
    return search("guided", task(seed), server, quiet), server


def test_guided_finds_the_optimum_for_a_fraction_of_its_cost() -> None:
    assert len(SETTINGS) >= 140
    best, cost = exhaustive()
    for seed in SEEDS:
        found, server = guided_run(seed)
        assert quality(found) >= 0.97 * best, seed
        assert server.seconds <= 0.15 * cost, seed
        assert found.winner is not None
        assert found.winner.verdict == "met"


def test_chance_is_worse_at_the_same_cost() -> None:
    runs = [guided_run(seed) for seed in SEEDS]
    by_chance = [search("random", task(s, budget_seconds=runs[s][1].seconds), Oracle(s), quiet) for s in SEEDS]
    assert fmean(map(quality, by_chance)) < 0.97 * fmean(quality(found) for found, _ in runs)


def test_a_wrong_model_costs_measurements_and_not_the_result() -> None:
    """Predictions are dealt out to the settings by chance."""

    def shuffled(task: Task, answers: list) -> Callable[[Setting, Load], Outcome]:
        model = calibrated(task, answers)
        others = list(SETTINGS)
        random.Random(0).shuffle(others)
        dealt = dict(zip(SETTINGS, others, strict=True))
        return lambda setting, load: model.predict(dealt[setting], load)

    server = Oracle(0)
    found = guided.search(task(0), server, quiet, shuffled)
    assert server.calls > guided_run(0)[1].calls
    assert quality(found) >= 0.9 * exhaustive()[0]


def test_the_same_seed_takes_the_same_way_and_another_one_another() -> None:
    first, server = guided_run(0)
    again = search("guided", task(0), Oracle(0), quiet)
    assert again.points == first.points
    assert len(again.points) == server.calls
    assert guided_run(1)[0].points[0].setting != first.points[0].setting or guided_run(1)[0].points != first.points


def test_what_it_says_while_it_runs() -> None:
    told: list[tuple[Point, Point | None, float | None, str]] = []
    search("guided", task(0), Oracle(0), lambda *said: told.append(said))
    assert told[0][3] == "calibration"
    assert told[-1][3].startswith("finalist")
    assert told[-1][1] is not None
    assert told[-1][2] == 0.0
    assert any("better with" in said for *_, said in told)


def test_settings_that_do_not_load_are_left_out() -> None:
    winner = guided_run(0)[0].winner
    assert winner is not None
    server = Oracle(0)
    server.broken = {winner.point.setting: "refused"}
    found = search("guided", task(0), server, quiet)
    assert found.winner is not None
    assert found.winner.point.setting != winner.point.setting
    assert [point.setting for point in found.points].count(winner.point.setting) <= 1


def test_a_machine_on_which_nothing_is_stable() -> None:
    server = Oracle(0)
    server.broken = dict.fromkeys(SETTINGS, "unstable")
    found = search("guided", task(0), server, quiet)
    assert found.winner is None
    assert "not stable" in found.why
    assert server.calls < 40


def test_constraints_that_nothing_meets() -> None:
    server = Oracle(0)
    found = search("guided", task(0, constraints=Constraints(p99_ms=1.0)), server, quiet)
    assert found.winner is None
    assert server.calls < 60


def test_a_budget_ends_it() -> None:
    server = Oracle(0)
    search("guided", task(0, budget_seconds=20.0), server, quiet)
    assert server.seconds < 20 + 30  # the last measurement, and the finalists


def test_a_parameter_for_each_question() -> None:
    asked = [question.purpose for question in questions(task(0))]
    assert sorted(asked) == ["alone", "alone", "alone", "crowd", "crowd", "fight", "overhead", "share"]


def test_an_unknown_search() -> None:
    with pytest.raises(UserError, match="'clever' is not known"):
        search("clever", task(0), Oracle(0), quiet)
