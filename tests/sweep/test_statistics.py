"""What windows, intervals and verdicts promise, on queues and machines whose truth is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from builder.errors import InternalError
from builder.sweep import statistics
from builder.sweep.load import Load
from builder.sweep.point import Interval, Point, Window
from builder.sweep.setting import Setting
from tests.sweep.closed_loop import SERVICE_SECONDS, requests

TRUE_PER_SECOND = 2 / SERVICE_SECONDS  # of two servers


def noisy(seed: int):
    rng = np.random.default_rng(seed)
    return lambda _began: SERVICE_SECONDS * rng.gamma(20) / 20


@pytest.mark.parametrize("users", [2, 4, 16])
def test_windows_hold_neither_ramp_up_nor_drain(users: int) -> None:
    sent = requests(users, 2, 2.0, noisy(users))
    windows = statistics.cut(sent)
    assert statistics.LEAST_WINDOWS <= len(windows) <= statistics.MOST_WINDOWS
    found = statistics.interval(windows, "throughput")
    assert found is not None
    assert found.value == pytest.approx(TRUE_PER_SECOND, rel=0.05)
    assert statistics.disagreement(windows) == ""
    assert statistics.littles_law(windows, Load(concurrency=users)) == pytest.approx(1, abs=0.02)
    # The negative control: with the ramp-up, latencies of requests that found an empty queue count, too.
    latencies = [latency for window in windows for latency in window.latencies_ms]
    assert users < 4 or min((ended - sent) * 1e3 for sent, ended in sent) < min(latencies)


def test_batches_are_not_torn() -> None:
    sent = requests(8, 1, 3.0, lambda _: 0.05, batch=8)  # eight answers at once, twenty times a second
    windows = statistics.cut(sent, batch=2)
    assert {window.requests % 8 for window in windows} == {0}
    assert [window.throughput_per_second for window in windows] == pytest.approx([320.0] * len(windows))


def test_windows_hold_whole_turns_of_different_texts() -> None:
    turn = [0.002, 0.002, 0.002, 0.03, 0.002, 0.05, 0.002]  # short texts, and two long ones
    number = itertools.count()
    sent = requests(1, 1, 1.5, lambda _: turn[next(number) % len(turn)])
    aligned, torn = statistics.cut(sent, cycle=len(turn)), statistics.cut(sent)
    assert {window.requests % len(turn) for window in aligned} == {0}
    assert [window.throughput_per_second for window in aligned] == pytest.approx([len(turn) / sum(turn)] * len(aligned))
    assert statistics.disagreement(aligned) == ""
    assert statistics.disagreement(torn)  # the negative control
    assert {window.requests for window in statistics.cut(sent, cycle=100)} != {100}  # turns are too long to count


def test_too_few_requests_make_no_stable_point() -> None:
    assert statistics.cut([]) == ()
    assert statistics.cut([(0.0, 1.0)]) == ()
    assert statistics.interval((), "throughput") is None
    windows = statistics.cut(requests(16, 2, 0.5, noisy(0)))
    assert "too few requests" in statistics.disagreement(windows)


def test_windows_that_do_not_agree_make_no_stable_point() -> None:
    slower = statistics.cut(requests(4, 2, 3.0, lambda began: SERVICE_SECONDS * (1 + began / 6)))
    assert "drifts" in statistics.disagreement(slower)
    wild = [Window(0.1, 12, 120.0 * (1.3 if index % 2 else 0.7), 1.0) for index in range(8)]
    assert "is known to ±" in statistics.disagreement(wild)


@pytest.mark.parametrize(("figure", "truth"), [("throughput", TRUE_PER_SECOND), ("mean_ms", 4e3 / TRUE_PER_SECOND)])
def test_intervals_hold_the_truth(figure: str, truth: float) -> None:
    found = [statistics.interval(statistics.cut(requests(4, 2, 1.5, noisy(seed))), figure) for seed in range(150)]
    held = np.mean([one is not None and one.low <= truth <= one.high for one in found])
    assert held >= 0.9  # 0.95, and chance
    assert np.mean([one.high / one.low for one in found if one]) < 1.2  # and not because they hold everything


def test_a_percentile_is_that_of_all_requests() -> None:
    windows = [Window(1.0, 4, 4.0, 0.0, (1.0, 2.0, 3.0, 4.0)), Window(1.0, 4, 4.0, 0.0, (5.0, 6.0, 7.0, 100.0))]
    assert [statistics.interval(windows, name).value for name in ("p50_ms", "p99_ms", "mean_ms")] == [4.0, 100.0, 16.0]


def test_the_same_requests_give_the_same_interval() -> None:
    windows = statistics.cut(requests(4, 2, 1.0, noisy(1)))
    assert statistics.interval(windows, "p99_ms") == statistics.interval(windows, "p99_ms")


def test_an_open_loop_has_no_number_in_flight() -> None:
    assert statistics.littles_law(statistics.cut(requests(4, 2, 1.0, noisy(1))), Load(rate=100)) is None


def test_littles_law_sees_requests_that_were_lost() -> None:
    sent = requests(8, 2, 2.0, noisy(2))[::2]  # every other one is not in the record
    assert statistics.littles_law(statistics.cut(sent), Load(concurrency=8)) == pytest.approx(0.5, abs=0.05)


def machine(rng: np.random.Generator, ratio: float, pairs: int) -> list[tuple[float, float]]:
    """Figures of A and B on a machine that drifts (2 % a run, and a random walk) with heavy-tailed noise."""
    runs = 2 * pairs
    drift = 0.02 * np.arange(runs) + np.cumsum(rng.normal(0, 0.01, runs))
    values = 100 * np.exp(drift + 0.02 * rng.standard_t(2, runs))
    found: dict[str, list[float]] = {"a": [], "b": []}
    for name, value in zip(statistics.order(pairs), values, strict=True):
        found[name].append(value * (ratio if name == "b" else 1))
    return list(zip(found["a"], found["b"], strict=True))


@pytest.mark.parametrize("pairs", [6, 8, 11])
def test_a_setting_is_not_better_than_itself_more_often_than_the_level(pairs: int) -> None:
    rng = np.random.default_rng(pairs)
    kinds = [statistics.compare(machine(rng, 1.0, pairs), "throughput").kind for _ in range(1500)]
    assert np.mean([kind in {"better", "worse"} for kind in kinds]) <= statistics.LEVEL


def test_measured_one_after_the_other_a_drift_would_be_a_difference() -> None:
    """The negative control of the order: A B A B on a drifting machine, and all of A before all of B."""
    drifting = [1.02**run for run in range(12)]
    assert statistics.compare(list(zip(drifting[:6], drifting[6:], strict=True)), "throughput").kind == "better"
    in_turn = {name: [x for x, one in zip(drifting, statistics.order(), strict=True) if one == name] for name in "ab"}
    assert statistics.compare(list(zip(in_turn["a"], in_turn["b"], strict=True)), "throughput").kind == "same"


def test_a_difference_of_15_percent_is_found() -> None:
    rng = np.random.default_rng(5)

    def quiet() -> list[tuple[float, float]]:
        return [(100 * x, 115 * y) for x, y in np.exp(0.03 * rng.normal(size=(statistics.PAIRS, 2)))]

    verdicts = [statistics.compare(quiet(), "throughput") for _ in range(200)]
    assert np.mean([one.kind == "better" for one in verdicts]) > 0.97
    assert {statistics.compare(quiet(), "p99_ms").kind for _ in range(5)} == {"worse"}
    assert np.mean([one.ratio.low <= 1.15 <= one.ratio.high for one in verdicts if one.ratio]) > 0.93


def test_a_difference_that_does_not_matter_is_the_same() -> None:
    pairs = [(100.0, 101.0 + 0.1 * n) for n in range(6)]
    found = statistics.compare(pairs, "throughput")
    assert (found.kind, found.p_value) == ("same", 2 / 2**6)
    assert statistics.compare(pairs, "throughput", smallest=0.01).kind == "better"


def test_what_could_hide_a_difference_is_unstable() -> None:
    found = statistics.compare([(100, 150), (100, 70), (100, 140), (100, 75), (100, 130), (100, 80)], "throughput")
    assert found.kind == "unstable"
    assert "could hide" in found.reason


def point(throughput: float, status: str = "stable") -> Point:
    figure = Interval(throughput, throughput, throughput)
    return Point(Setting(), Load(concurrency=1), status, throughput=figure)  # type: ignore[arg-type]


def test_points_that_are_not_stable_do_not_count() -> None:
    a, b = [point(100.0 + n) for n in range(7)], [point(120.0 + n) for n in range(7)]
    assert statistics.verdict(a, b, "throughput").kind == "better"
    assert statistics.verdict(b, a, "throughput").kind == "worse"
    shaky = [*b[:5], point(125.0, "unstable"), point(126.0, "saturated")]
    assert statistics.verdict(a, shaky, "throughput").kind == "unstable"
    with pytest.raises(InternalError, match="cannot be paired"):
        statistics.verdict(a, b[1:], "throughput")
