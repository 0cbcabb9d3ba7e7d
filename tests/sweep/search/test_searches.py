"""Searches on a server that is not there: how near guided comes to the optimum, and what it costs."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from statistics import fmean
from typing import TYPE_CHECKING

import pytest

from builder.errors import UserError
from builder.sweep import space
from builder.sweep.load import Load
from builder.sweep.objective import Constraints, Objective
from builder.sweep.point import Interval, Point
from builder.sweep.search import guided, search
from builder.sweep.search.calibration import calibrated, questions
from builder.sweep.search.model import Calibrated
from builder.sweep.search.task import Task
from builder.sweep.setting import Setting
from builder.sweep.space import Facts
from tests.sweep.search.oracle import FACTS, LOADS, SPACE, Oracle, truth

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.sweep.search.simulate import Outcome
    from builder.sweep.search.task import Found

SEEDS = range(3)
SETTINGS = SPACE.settings()
LIMIT = Constraints(p99_ms=12)
LIMIT_60 = Constraints(p99_ms=60)


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


TOLD: list[tuple[Point, Point | None, float | None, str]] = []


@cache
def guided_run(seed: int) -> tuple[Found, Oracle]:
    server = Oracle(seed)
    return search("guided", task(seed), server, quiet if seed else lambda *said: TOLD.append(said)), server


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
    half = SETTINGS[::2]
    right, wrong = Oracle(0), Oracle(0)
    found = search("guided", replace(task(0), settings=half), right, quiet)

    def shuffled(task: Task, answers: list) -> Callable[[Setting, Load], Outcome]:
        model = calibrated(task, answers)
        others = list(half)
        random.Random(0).shuffle(others)
        dealt = dict(zip(half, others, strict=True))
        return lambda setting, load: model.predict(dealt[setting], load)

    misled = guided.search(replace(task(0), settings=half), wrong, quiet, shuffled)
    assert wrong.calls > right.calls
    assert quality(misled) >= 0.95 * quality(found)


def test_the_same_seed_takes_the_same_way_and_another_one_another() -> None:
    first, server = guided_run(0)
    again = search("guided", task(0), Oracle(0), quiet)
    assert again.points == first.points
    assert len(again.points) == server.calls
    assert guided_run(1)[0].points[0].setting != first.points[0].setting or guided_run(1)[0].points != first.points


def test_what_it_says_while_it_runs() -> None:
    found, _ = guided_run(0)
    assert tuple(said[0] for said in TOLD) == found.points
    assert TOLD[0][3] == "calibration"
    assert any(said.startswith("the most promising") for *_, said in TOLD)
    assert TOLD[-1][1] is not None
    left = [seconds for _, _, seconds, _ in TOLD if seconds is not None]
    assert len(left) > len(TOLD) / 2
    assert min(left) >= 0
    assert any("better with" in said for *_, said in TOLD)


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


class Modelled:
    """A server that does what the model says; open loop and builds, which the other one does not know."""

    facts = Facts(cores=2, max_batch_sizes={"": 8})
    model = Calibrated(facts, {1: 10.0}, speed={Setting.of({"@precision": "int8"}): 0.5})

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, setting: Setting, load: Load, seconds: float) -> Point:
        self.calls += 1
        outcome = self.model.predict(setting, load, requests=600)
        rates = {name: outcome.figure(name) for name in ("throughput", "p50_ms", "p99_ms", "mean_ms")}
        figures = {name: Interval(rate, 0.98 * rate, 1.02 * rate) for name, rate in rates.items()}
        return Point(setting, load, "stable", seconds=seconds, requests=600, **figures)  # type: ignore[arg-type]


def test_memory_is_learned_from_what_others_took() -> None:
    """The simulation knows nothing of it; the least is in the middle."""
    knobs = {space.COUNT: [1, 2, 3, 4, 5, 6], space.MAX_BATCH_SIZE: [1, 2, 4, 8]}
    settings, server = space.parse(knobs, Modelled.facts).settings(), Modelled()

    def measure(setting: Setting, load: Load, seconds: float) -> Point:
        count = int(str(setting.get(space.COUNT)))
        return replace(server(setting, load, seconds), memory_mb=300.0 + 40 * abs(count - 3))

    loads = tuple(Load(concurrency=each) for each in (1, 4, 16))
    least = Task(settings, loads, Objective.parse("memory_mb"), LIMIT_60, server.facts)
    found = search("guided", least, measure, quiet)
    assert found.winner is not None
    assert found.winner.point.setting.get(space.COUNT) == 3
    assert server.calls < len(settings) * len(loads)


def test_a_load_that_nobody_asked_for_does_not_win() -> None:
    """Calibration uses closed loops. Here the open ones that were asked for are more than the server can do."""
    loads = tuple(Load(rate=float(rate)) for rate in (4000, 8000))
    settings, server = space.parse({space.COUNT: [1, 2]}, Modelled.facts).settings(), Modelled()

    def measure(setting: Setting, load: Load, seconds: float) -> Point:
        point = server(setting, load, seconds)
        return replace(point, status="unstable") if load.rate else point

    most = Task(settings, loads, Objective.parse("throughput"), LIMIT_60, server.facts)
    found = search("guided", most, measure, quiet)
    assert any(point.status == "stable" for point in found.points)
    assert found.winner is None
    assert found.ranking == ()


@pytest.mark.parametrize("kind", ["guided", "exhaustive"])
def test_open_loop_and_builds(kind: str) -> None:
    knobs = {
        "@precision": ["fp32", "int8"],
        space.COUNT: [1, 2],
        space.MAX_BATCH_SIZE: [1, 4, 8],
        space.DELAY: [0, 500],
    }
    settings = space.parse(knobs, Modelled.facts).settings()
    loads = tuple(Load(rate=float(rate)) for rate in (25, 50, 100, 150, 200, 300, 400))
    server = Modelled()
    found = search(kind, Task(settings, loads, Objective.parse("throughput"), LIMIT_60, server.facts), server, quiet)
    assert found.winner is not None
    assert found.winner.point.setting.get("@precision") == "int8"
    assert found.winner.point.load.rate == 150.0  # one that takes 5 ms follows so many, and no more
    if kind == "guided":
        assert server.calls < len(settings) * 3


def test_a_space_too_large_to_be_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guided, "MOST_CANDIDATES", 200)
    found = search("guided", task(0), Oracle(0), quiet)
    assert found.winner is not None
    assert "of 40 settings by chance" in found.why


def test_an_unknown_search() -> None:
    with pytest.raises(UserError, match="'clever' is not known"):
        search("clever", task(0), Oracle(0), quiet)
