"""The arithmetic of ``scripts/bench``: nothing here is timed."""

from __future__ import annotations

import json
import random
import statistics
from itertools import pairwise

import pytest

from benchmarks.report import Comparison, Goal, Result
from benchmarks.statistics import estimate, interleave, paired_ratio


def test_estimate_is_the_median_inside_its_interval():
    values = [1.0, 2.0, 3.0, 4.0, 100.0]
    found = estimate(values)
    assert found.median == 3.0
    assert found.count == 5
    assert 1.0 <= found.low < 3.0 < found.high <= 100.0
    assert estimate(values) == found  # a fixed seed


def test_one_value_and_equal_values_have_no_width():
    for values in ([7.0], [7.0] * 9):
        found = estimate(values)
        assert (found.median, found.low, found.high) == (7.0, 7.0, 7.0)


def test_interval_holds_the_true_median_about_as_often_as_it_says():
    """Repeated samples from a known distribution; the control, an interval of 50 %, must hold it far less often."""
    generator = random.Random(1)
    held = {0.95: 0, 0.5: 0}
    for _ in range(200):
        sample = [generator.gauss(10.0, 1.0) for _ in range(15)]
        for confidence in held:
            found = estimate(sample, confidence=confidence, resamples=300)
            held[confidence] += found.low <= 10.0 <= found.high
    assert held[0.95] >= 180
    assert 70 <= held[0.5] <= 150


def test_more_values_make_a_narrower_interval():
    generator = random.Random(2)
    values = [generator.gauss(10.0, 1.0) for _ in range(200)]
    few, many = estimate(values[:10]), estimate(values)
    assert many.high - many.low < few.high - few.low


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_estimate_refuses_what_has_no_median(values):
    with pytest.raises(ValueError, match="finite"):
        estimate(values)


def test_estimate_refuses_a_confidence_outside_0_to_1():
    with pytest.raises(ValueError, match="confidence"):
        estimate([1.0], confidence=95)


def test_paired_ratio_cancels_drift_that_hits_both_sides():
    """The machine slows down fourfold while measuring; unpaired, the interval of the ratio would be wide."""
    drift = [1.0, 1.5, 2.0, 3.0, 4.0]
    slow, fast = [2.0 * factor for factor in drift], [1.0 * factor for factor in drift]
    found = paired_ratio(slow, fast)
    assert (found.median, found.low, found.high) == pytest.approx((2.0, 2.0, 2.0))
    shuffled = paired_ratio(slow, fast[::-1])  # the control: not neighbours in time
    assert shuffled.high - shuffled.low > 1.0


@pytest.mark.parametrize(("above", "below"), [([1.0], [1.0, 2.0]), ([], []), ([1.0], [0.0]), ([-1.0], [1.0])])
def test_paired_ratio_refuses_sides_that_do_not_match(above, below):
    with pytest.raises(ValueError, match=r"differ|finite|positive"):
        paired_ratio(above, below)


def test_interleave_reverses_the_order_from_round_to_round():
    assert list(interleave("AB", 3)) == [(0, "A"), (0, "B"), (1, "B"), (1, "A"), (2, "A"), (2, "B")]
    sides = [side for _, side in interleave("ABC", 4)]
    assert [sides.count(side) for side in "ABC"] == [4, 4, 4]
    assert {first + second for first, second in pairwise(sides)} == {"AB", "BC", "CC", "CB", "BA", "AA"}


def test_above_one_means_that_tritonsmith_is_ahead():
    rates = _comparison(ours=(200.0, 210.0), peer=(100.0, 105.0), larger_is_better=True)
    seconds = _comparison(ours=(1.0, 1.1), peer=(2.0, 2.2))
    assert rates.ratio.median == seconds.ratio.median == pytest.approx(2.0)
    assert _comparison(ours=(2.0,), peer=(1.0,)).ratio.median == 0.5


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal("ratio", 1.9), True),
        (Goal("ratio", 2.0), True),
        (Goal("ratio", 2.0, strict=True), False),
        (Goal("ratio", 2.1), False),
        (Goal("value", 1.0), True),
        (Goal("value", 0.9), False),
        (None, None),
    ],
)
def test_goals(goal, met):
    assert _comparison(ours=(1.0, 1.0, 1.0), peer=(2.0, 2.0, 2.0), goal=goal).met is met


def test_a_goal_inside_the_interval_is_said_to_be_uncertain():
    spread = _comparison(ours=(1.0, 1.0, 1.0), peer=(1.0, 2.0, 3.0), goal=Goal("ratio", 1.9))
    assert spread.verdict == "met, within the interval"
    steady = _comparison(ours=(1.0, 1.0, 1.0), peer=(2.0, 2.0, 2.0), goal=Goal("ratio", 1.9))
    assert steady.verdict == "met"


def test_result_is_written_as_json_and_as_a_table(tmp_path):
    row = _comparison(ours=(1.0, 1.0), peer=(2.5, 2.5), goal=Goal("ratio", 3.0))
    machine = {"cpu": "a processor", "versions": {"python": "3.11"}}
    Result("sample", "Sample", "What was done.", (row,), machine, {"rounds": 2}, ({"side": "peer"},)).write(tmp_path)
    data = json.loads((tmp_path / "sample.json").read_text())
    assert data["comparisons"][0]["ours"] == [1.0, 1.0]
    assert data["comparisons"][0]["ratio"]["median"] == 2.5
    assert data["comparisons"][0]["met"] is False
    assert data["raw"] == [{"side": "peer"}]
    lines = [line for line in (tmp_path / "sample.md").read_text().splitlines() if line.startswith("|")]
    assert lines[2] == "| speed | 1.00 s | 2.50 s (peer) | **2.50** | 2.50 to 2.50 | 2 | at least 3 | missed |"
    assert {line.count("|") for line in lines} == {lines[0].count("|")}


def _comparison(*, ours, peer, goal=None, larger_is_better=False):
    assert statistics.median(ours) > 0
    return Comparison("speed", "s", "peer", ours, peer, larger_is_better=larger_is_better, goal=goal)
