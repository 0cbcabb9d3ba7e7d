"""Medians, intervals and the order of measurements: what turns noisy figures into a ratio that means something.

A machine drifts: another process wakes up, a clock changes. So both sides are measured in turn (A B, B A, A B, …), each
round gives one ratio of neighbours in time, and the result is the median of these ratios with a bootstrap interval.
"""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Side = TypeVar("Side")

CONFIDENCE = 0.95
RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median and its percentile bootstrap interval; ``low`` and ``high`` are the median itself for one value."""

    median: float
    low: float
    high: float
    count: int  # values behind it


def estimate(values: Sequence[float], *, confidence: float = CONFIDENCE, resamples: int = RESAMPLES) -> Estimate:
    """The median of ``values`` with its bootstrap interval (percentile method, fixed seed: same values, same answer).

    Raises:
        ValueError: no values, a value that is not finite, or a confidence outside 0 to 1.
    """
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"an estimate takes one or more finite values, not {list(values)}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence}")
    generator = random.Random(0)  # noqa: S311 - not for secrets
    medians = sorted(statistics.median(generator.choices(values, k=len(values))) for _ in range(resamples))
    tail = (1 - confidence) / 2
    return Estimate(
        median=statistics.median(values),
        low=medians[math.floor(tail * (resamples - 1))],
        high=medians[math.ceil((1 - tail) * (resamples - 1))],
        count=len(values),
    )


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    """The median of the ratios of each round, with its interval.

    Raises:
        ValueError: the sides have different numbers of rounds, none, or a figure that is not positive.
    """
    if len(numerators) != len(denominators):
        raise ValueError(f"sides differ: {len(numerators)} figures against {len(denominators)}")
    if any(figure <= 0 for figure in (*numerators, *denominators)):
        raise ValueError(f"figures must be positive: {list(numerators)} and {list(denominators)}")
    return estimate([above / below for above, below in zip(numerators, denominators, strict=True)])


def interleave(sides: Sequence[Side], rounds: int) -> Iterator[tuple[int, Side]]:
    """Every side once a round, the order reversed from round to round: no side always follows another.

    Yields:
        The round, from 0, and the side to measure now.
    """
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            yield number, side
