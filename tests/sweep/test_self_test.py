"""The self-test of a sweep: passed by a machine whose noise is honest, failed by one that tells two runs apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from builder.sweep.load import Load
from builder.sweep.point import Interval, Point
from builder.sweep.self_test import SelfTest, interleaved, self_test
from builder.sweep.setting import Setting


def point(value: float, status: str = "stable") -> Point:
    figure = Interval(value, value, value)
    return Point(Setting(), Load(concurrency=1), status, throughput=figure, p99_ms=figure)  # type: ignore[arg-type]


def test_noise_that_drifts_passes() -> None:
    rng = np.random.default_rng(2)
    clock = itertools.count()
    told = []
    found = self_test(lambda: point(100 + next(clock) / 10 + rng.normal(0, 3)), lambda *one: told.append(one[:2]))
    assert found.passed
    assert told == [(number, 20) for number in range(1, 21)]
    assert found.as_json()["wrong"].keys() == {"throughput", "p99_ms"}


def test_a_machine_on_which_every_other_run_is_slower_fails() -> None:
    """The negative control: what measures B otherwise than A, whatever they are, is found out."""
    order = itertools.cycle([1.0, 1.2, 1.2, 1.0])  # as the runs of A and B come
    rng = np.random.default_rng(2)
    found = self_test(lambda: point(100 * next(order) + rng.normal(0, 1)), times=4)
    assert not found.passed
    assert found.wrong("throughput") == 4


def test_a_test_in_which_nothing_was_compared_proves_nothing() -> None:
    found = self_test(lambda: point(100, "unstable"), times=2)
    assert {one.kind for one in found.verdicts["throughput"]} == {"unstable"}
    assert not found.passed


def test_the_level_is_a_share() -> None:
    found = SelfTest({"throughput": ()}, 0.05)
    assert [SelfTest({"x": (None,) * n}, 0.05).allowed("x") for n in (19, 20, 40)] == [0, 1, 2]  # type: ignore[arg-type]
    assert found.wrong("throughput") == 0


def test_pairs_that_are_not_stable_are_measured_again() -> None:
    statuses = iter(["stable", "unstable", "stable", "stable", "unstable", "stable", "stable", "stable"])
    a, b = interleaved(lambda: point(1, next(statuses)), lambda: point(1, next(statuses)), 2)
    assert [one.status == other.status == "stable" for one, other in zip(a, b, strict=True)] == [
        False,
        True,
        False,
        True,
    ]
    a, _ = interleaved(lambda: point(1, "unstable"), lambda: point(1), 3)
    assert len(a) == 4  # three of six could still be stable, three of five, of four; of two no more


@pytest.mark.parametrize("broken", ["failed", "refused"])
def test_what_fails_is_not_measured_again_and_again(broken: str) -> None:
    statuses = iter(["stable", "stable", broken])
    a, b = interleaved(lambda: point(1, next(statuses)), lambda: point(1), 8)
    assert [one.status for one in a] == ["stable", "stable", broken]
    assert len(b) == 3
    found = self_test(lambda: point(1, broken), times=1)
    assert found.verdicts["throughput"][0].broken == "a"


def test_each_pair_is_the_other_way_round() -> None:
    seen: list[str] = []

    def measured(name: str):
        def measure() -> Point:
            seen.append(name)
            return point(len(seen))

        return measure

    a, b = interleaved(measured("a"), measured("b"), 3)
    assert "".join(seen) == "abbaab"
    assert [one.figure("throughput") for one in a] == [1, 4, 5]
    assert [one.figure("throughput") for one in b] == [2, 3, 6]
