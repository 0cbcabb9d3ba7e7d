"""What is believed of every candidate: the simulation's prediction, corrected by what was measured.

In a closed loop, latency and throughput are two sides of one thing: a server that is 10 % faster than predicted answers
10 % sooner. So what is learned of a latency is its *tail*, latency times throughput, which errs little and
independently; and the chance that a candidate is better and feasible is taken over both at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Final

from builder.sweep.objective import LATENCIES, SIGMAS
from builder.sweep.point import Interval
from builder.sweep.search.gaussian import Process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from builder.sweep.load import Load
    from builder.sweep.point import Point
    from builder.sweep.search.simulate import Outcome
    from builder.sweep.search.task import Task

THROUGHPUT: Final = "throughput"
MEMORY: Final = "memory_mb"
_LEAST_NOISE: Final = {THROUGHPUT: 0.01}  # standard deviation of a logarithm
_LEAST_NOISE_OF_LATENCY: Final = 0.03
_USUALLY_BETWEEN: Final = {THROUGHPUT: 0.03, MEMORY: 0.01, **dict.fromkeys(LATENCIES, 0.05)}
_WEIGHT_OF_USUAL: Final = 4
_UNKNOWN: Final = 0.5  # standard deviation before anything was measured
_NODES: Final = 41
_REACH: Final = 4.0  # standard deviations


@dataclass(frozen=True, slots=True)
class Hope:
    """Of each candidate: the score, the chance that all constraints are surely met, and what comes of both.

    Args:
        score: expected.
        feasible: chance.
        better: chance to be feasible, and better than the best by the margin.
        gain: expected improvement of the score; 0 where it is not feasible.
    """

    score: np.ndarray
    feasible: np.ndarray
    better: np.ndarray
    gain: np.ndarray


class Belief:
    """Logarithms of throughput and tails at every candidate, as normal distributions.

    Args:
        task: what is searched.
        loads: of the candidates.
        places: of the candidates, shape (candidates, features).
        outcomes: predictions.
    """

    def __init__(self, task: Task, loads: Sequence[Load], places: np.ndarray, outcomes: Sequence[Outcome]) -> None:
        import numpy as np

        self._task, self._places = task, places
        self._closed = np.array([0.0 if load.rate else 1.0 for load in loads])
        wanted = dict.fromkeys((THROUGHPUT, *task.objective.figures, *task.constraints.limits()))
        self.figures = [name for name in wanted if name in {THROUGHPUT, MEMORY, *LATENCIES}]
        rates = np.log([max(one.throughput, 1e-6) for one in outcomes])
        self._predicted = {name: self._prior(name, outcomes, rates) for name in self.figures}
        self._means = dict(self._predicted)
        self._deviations = {name: np.full(len(loads), _UNKNOWN) for name in self.figures}
        self._usual_noise = dict.fromkeys(self.figures, 0.0)

    def learn(self, known: Mapping[int, Sequence[Point]]) -> None:
        """Takes in what was measured: candidate → its stable points."""
        import numpy as np

        if not known:
            return
        rows = np.array(list(known))
        for name in self.figures:
            logs = [self._measured(name, place, points) for place, points in known.items()]
            measured = np.array([fmean(one) for one in logs])
            if name == MEMORY:
                self._predicted[name] = np.full(len(self._places), float(np.median(measured)))
            between = _between(name, logs)
            noise = [
                math.hypot(fmean(_noise(point, name) for point in points), between) / math.sqrt(len(points))
                for points in known.values()
            ]
            process = Process(self._places[rows], measured - self._predicted[name][rows], noise)
            off, self._deviations[name] = process.at(self._places)
            self._means[name] = self._predicted[name] + off
            self._usual_noise[name] = float(np.median([_noise(point, name) for one in known.values() for point in one]))

    def _measured(self, name: str, place: int, points: Sequence[Point]) -> list[float]:
        """Logarithms of what is learned of a candidate: of a latency in a closed loop, its tail."""
        rates = [math.log(point.figure(THROUGHPUT) or 1e-6) for point in points]
        closed = float(self._closed[place]) if name in LATENCIES else 0.0
        return [math.log(point.figure(name) or 1e-6) + closed * rate for point, rate in zip(points, rates, strict=True)]

    @property
    def score(self) -> np.ndarray:
        """Expected, of each candidate."""
        import numpy as np

        return np.asarray(self._scores(self._means[THROUGHPUT])[0])

    def hope(self, best: float, margin: float, times: np.ndarray) -> Hope:
        """What may come of measuring each candidate.

        Args:
            best: the score so far.
            margin: the least that counts as better.
            times: how often each was measured: that makes its interval narrower.
        """
        import numpy as np

        nodes = np.linspace(-_REACH, _REACH, _NODES)
        weights = np.exp(-0.5 * nodes**2)
        weights /= weights.sum()
        feasible, better, gain = (np.zeros(len(self._places)) for _ in range(3))
        for node, weight in zip(nodes, weights, strict=True):
            rate = self._means[THROUGHPUT] + node * self._deviations[THROUGHPUT]
            chance = weight * self._feasible(rate, times)
            score, deviation = self._scores(rate)
            feasible += chance
            better += chance * normal((score - best - margin) / deviation)
            gain += chance * improvement(score, deviation, best)
        return Hope(self.score, feasible, better, gain)

    def _prior(self, name: str, outcomes: Sequence[Outcome], rates: np.ndarray) -> np.ndarray:
        """What is expected before anything was measured. Of memory nothing: it is what others took."""
        import numpy as np

        if name == THROUGHPUT:
            return rates
        if name == MEMORY:
            return np.zeros(len(rates))
        return np.asarray(np.log([max(one.figure(name), 1e-6) for one in outcomes]) + self._closed * rates)

    def _log(self, name: str, rate: np.ndarray) -> np.ndarray:
        """The expected logarithm of a figure where the throughput is known."""
        return self._means[name] - self._closed * rate if name in LATENCIES else self._means[name]

    def _scores(self, rate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The objective's mean and deviation where the throughput is known."""
        import numpy as np

        mean, variance = np.zeros(len(rate)), np.full(len(rate), 1e-6)
        for term, weight in self._task.objective.terms:
            name = THROUGHPUT if term == "cost" else term
            if name == THROUGHPUT:
                mean = mean + weight * rate
            elif name in self._means:
                mean = mean - weight * self._log(name, rate)
                variance = variance + (weight * self._deviations[name]) ** 2
        return mean, np.sqrt(variance)

    def _feasible(self, rate: np.ndarray, times: np.ndarray) -> np.ndarray:
        """The chance that every interval keeps to its limit as a whole, where the throughput is known."""
        import numpy as np

        chance = np.ones(len(rate))
        for limit_name, limit in self._task.constraints.limits().items():
            name = THROUGHPUT if limit_name == "min_throughput" else limit_name
            if name not in self._means:
                continue
            margin = SIGMAS * self._usual_noise[name] / np.sqrt(times + 1)
            if name == THROUGHPUT:
                chance = chance * normal((rate - margin - math.log(limit)) / _LEAST_NOISE[name])
            else:
                off = math.log(limit) - margin - self._log(name, rate)
                chance = chance * normal(off / self._deviations[name])
        return chance


def _between(name: str, logs: Sequence[Sequence[float]]) -> float:
    """Standard deviation between measurements of the same, beside what their own intervals tell.

    A machine is faster in one minute than in the next, and no interval of a point of two seconds knows of that. What
    repeated measurements say of it is weighed with what is usual, as so many of them.
    """
    usual = _USUALLY_BETWEEN.get(name, _USUALLY_BETWEEN[THROUGHPUT])
    squares, freedom = _WEIGHT_OF_USUAL * usual**2, float(_WEIGHT_OF_USUAL)
    for one in logs:
        middle = fmean(one)
        squares += sum((value - middle) ** 2 for value in one)
        freedom += len(one) - 1
    return math.sqrt(squares / freedom)


def _noise(point: Point, name: str) -> float:
    """Standard deviation of the logarithm of a measured figure."""
    found = getattr(point, name)
    least = _LEAST_NOISE.get(name, _LEAST_NOISE_OF_LATENCY)
    if not isinstance(found, Interval) or found.low <= 0:
        return least
    return max(least, math.log(found.high / found.low) / 2 / SIGMAS)


def normal(deviations: np.ndarray) -> np.ndarray:
    """The normal distribution function, to three digits (Page's approximation)."""
    import numpy as np

    bounded = np.clip(deviations, -8, 8)
    return np.asarray(0.5 * (1 + np.tanh(0.7978845608 * (bounded + 0.044715 * bounded**3))))


def improvement(mean: np.ndarray, deviation: np.ndarray, best: float) -> np.ndarray:
    """Expected improvement over ``best``."""
    import numpy as np

    off = np.clip((mean - best) / deviation, -30, 1e6)
    return np.asarray(
        deviation * (off * normal(off) + np.exp(-0.5 * np.square(np.minimum(off, 30))) / math.sqrt(2 * math.pi))
    )
