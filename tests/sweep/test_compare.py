"""What verdicts promise, on machines whose truth is known: drifting ones with heavy-tailed noise."""

from __future__ import annotations

import numpy as np
import pytest

from builder.errors import InternalError
from builder.sweep import compare
from builder.sweep.load import Load
from builder.sweep.point import Interval, Point
from builder.sweep.setting import Setting


def machine(rng: np.random.Generator, ratio: float, pairs: int) -> list[tuple[float, float]]:
    """Figures of A and B on a machine that drifts (2 % a run, and a random walk) with heavy-tailed noise."""
    runs = 2 * pairs
    drift = 0.02 * np.arange(runs) + np.cumsum(rng.normal(0, 0.01, runs))
    values = 100 * np.exp(drift + 0.02 * rng.standard_t(2, runs))
    found: dict[str, list[float]] = {"a": [], "b": []}
    for name, value in zip(compare.order(pairs), values, strict=True):
        found[name].append(value * (ratio if name == "b" else 1))
    return list(zip(found["a"], found["b"], strict=True))


@pytest.mark.parametrize("pairs", [8, 9, 12])
def test_a_setting_is_not_better_than_itself_more_often_than_the_level(pairs: int) -> None:
    rng = np.random.default_rng(pairs)
    kinds = [compare.compare(machine(rng, 1.0, pairs), "throughput").kind for _ in range(1500)]
    assert np.mean([kind in {"better", "worse"} for kind in kinds]) <= compare.LEVEL / 2


def test_measured_one_after_the_other_a_drift_would_be_a_difference() -> None:
    """The negative control of the order: A B A B on a drifting machine, and all of A before all of B."""
    drifting = [1.02**run for run in range(16)]
    assert compare.compare(list(zip(drifting[:8], drifting[8:], strict=True)), "throughput").kind == "better"
    in_turn = {name: [x for x, one in zip(drifting, compare.order(), strict=True) if one == name] for name in "ab"}
    assert compare.compare(list(zip(in_turn["a"], in_turn["b"], strict=True)), "throughput").kind == "same"


def test_a_difference_of_15_percent_is_found() -> None:
    rng = np.random.default_rng(5)

    def quiet() -> list[tuple[float, float]]:
        return [(100 * x, 115 * y) for x, y in np.exp(0.03 * rng.normal(size=(compare.PAIRS, 2)))]

    verdicts = [compare.compare(quiet(), "throughput") for _ in range(200)]
    assert np.mean([one.kind == "better" for one in verdicts]) > 0.97
    assert {compare.compare(quiet(), "p99_ms").kind for _ in range(5)} == {"worse"}
    assert np.mean([one.ratio.low <= 1.15 <= one.ratio.high for one in verdicts if one.ratio]) > 0.93


def test_a_difference_that_does_not_matter_is_the_same() -> None:
    pairs = [(100.0, 101.0 + 0.1 * n) for n in range(8)]
    found = compare.compare(pairs, "throughput")
    assert (found.kind, found.p_value) == ("same", 2 / 2**8)
    assert compare.compare(pairs, "throughput", smallest=0.01).kind == "better"


def test_what_could_hide_a_difference_is_unstable() -> None:
    found = compare.compare(
        [(100, 150), (100, 70), (100, 140), (100, 75), (100, 130), (100, 80), (100, 120), (100, 85)],
        "throughput",
    )
    assert found.kind == "unstable"
    assert "could hide" in found.reason


def point(throughput: float, status: str = "stable") -> Point:
    figure = Interval(throughput, throughput, throughput)
    return Point(Setting(), Load(concurrency=1), status, throughput=figure)  # type: ignore[arg-type]


def test_points_that_are_not_stable_do_not_count() -> None:
    a, b = [point(100.0 + n) for n in range(9)], [point(120.0 + n) for n in range(9)]
    assert compare.verdict(a, b, "throughput").kind == "better"
    assert compare.verdict(b, a, "throughput").kind == "worse"
    shaky = [*b[:7], point(127.0, "unstable"), point(128.0, "saturated")]
    assert compare.verdict(a, shaky, "throughput").kind == "unstable"
    with pytest.raises(InternalError, match="cannot be paired"):
        compare.verdict(a, b[1:], "throughput")


@pytest.mark.parametrize("status", ["failed", "refused"])
def test_a_side_that_cannot_be_measured_says_why(status: str) -> None:
    a, b = [point(100.0 + n) for n in range(9)], [point(120.0 + n) for n in range(9)]
    bad = Point(Setting(), Load(concurrency=1), status, "3 of 64 answers under load are wrong")  # type: ignore[arg-type]
    found = compare.verdict(a, [*b[:8], bad], "throughput")
    assert (found.kind, found.broken) == ("unstable", "b")
    assert found.reason == compare.broken([*b, bad]) == f"{status}: 3 of 64 answers under load are wrong"
    assert compare.verdict([bad, *a[1:]], b, "throughput").broken == "a"
    assert compare.verdict(a, [*b[:8], point(127.0, "unstable")], "throughput").broken == ""
    assert compare.broken(a) == ""
