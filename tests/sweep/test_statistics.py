"""What windows, intervals and verdicts promise, on queues and machines whose truth is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from builder.sweep import statistics
from builder.sweep.load import Load
from builder.sweep.point import Interval, Window
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


def test_what_few_rounds_say_is_as_wide_as_it_is_unsure() -> None:
    known = {1: 12.706, 2: 4.303, 4: 2.776, 5: 2.571, 10: 2.228, 30: 2.042}
    assert {free: statistics.student_t(free) for free in known} == pytest.approx(known, rel=0.002)
    rng = np.random.default_rng(3)
    for count in (2, 3):
        rounds = rng.normal(10, 0.5, (1000, count)).tolist()
        found = [statistics.of_rounds(values) for values in rounds]
        assert np.mean([one is not None and one.low <= 10 <= one.high for one in found]) >= 0.93  # 0.95, and chance
        ranges = np.mean([min(values) <= 10 <= max(values) for values in rounds])
        assert ranges < 0.8  # the negative control
    assert statistics.of_rounds([]) is None
    assert statistics.of_rounds([5.0]) == Interval(5.0, 5.0, 5.0)
    wide = statistics.of_rounds([1.0, 9.0])
    assert wide is not None
    assert wide.low == 0
