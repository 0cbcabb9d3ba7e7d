"""The search that thinks: a calibrated simulation says what to expect, measurements say where it errs.

1. *Calibration*: a handful of measurements fit the parameters of the simulation (:mod:`.calibration`, :mod:`.model`).
2. The simulation predicts every setting under every load. What it gets wrong is learned from all that was measured, as
   a smooth function of the knobs with an uncertainty (:mod:`.gaussian`).
3. The next measurement is where the expected improvement over the best so far is greatest, times the chance that the
   constraints hold; another load of the setting that is loaded costs less than loading another setting.
4. It ends when no candidate has a fair chance to beat the best by more than the noise.
5. *Finalists*: the best few are measured again, in turn, and pooled (:mod:`.finalists`). Where that takes some of
   their luck away, others have a fair chance again, and the search goes on.

A simulation that errs costs measurements, not the result: errors that do not look alike make the uncertainty large,
and what is uncertain is measured.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import TYPE_CHECKING, Final

from builder.sweep.objective import LATENCIES
from builder.sweep.point import Interval
from builder.sweep.search.calibration import calibrated, questions
from builder.sweep.search.finalists import TIMES, best_of, measure_again, ranked_first
from builder.sweep.search.gaussian import Process
from builder.sweep.search.places import places
from builder.sweep.search.task import Journey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from builder.sweep.load import Load
    from builder.sweep.objective import Ranked
    from builder.sweep.point import Point
    from builder.sweep.search.calibration import Question
    from builder.sweep.search.simulate import Outcome
    from builder.sweep.search.task import Found, Measure, Task, Told
    from builder.sweep.setting import Setting

    Predict = Callable[[Setting, Load], Outcome]
    Calibrate = Callable[[Task, Sequence[tuple[Question, Point]]], Predict]

FAIR_CHANCE: Final = 0.02
"""Of beating the best by more than the noise: below it, nothing is measured any more."""

MARGIN: Final = 0.02
"""The noise, as a difference of scores: 2 % of throughput."""

_NOISE: Final = {"throughput": 0.01}  # standard deviation of a logarithm, at the least
_NOISE_OF_LATENCY: Final = 0.03
_SIGMAS: Final = 1.96  # an interval's half-width
_IN_VAIN: Final = 10
_LOADING: Final = 2.0  # what a measurement costs that needs another setting, against one that does not


def search(task: Task, measure: Measure, told: Told, calibrate: Calibrate | None = None) -> Found:
    """Searches. ``calibrate``: makes a prediction of the calibration's answers; for experiments."""
    journey = Journey(task, measure, told)
    asked = list(questions(task))
    random.Random(task.seed).shuffle(asked)  # noqa: S311 - not for secrets
    answers = []
    for number, question in enumerate(asked):
        if journey.over:
            break
        left = 2 * len(asked) - number - 1
        point = journey.take(question.setting, question.load, "calibration", left=left)
        if point.status == "unstable":
            point = journey.take(question.setting, question.load, "calibration, once more", left=left, times=2.0)
        answers.append((question, point))
    predict = calibrate(task, answers) if calibrate else calibrated(task, answers).predict
    return _Guided(journey, predict).run()


class _Guided:
    """Candidates are all pairs of setting and load."""

    def __init__(self, journey: Journey, predict: Predict) -> None:
        import numpy as np

        task = journey.task
        self.journey, self.task = journey, task
        self.candidates = [(setting, load) for setting in task.settings for load in task.loads]
        self.number = {candidate: place for place, candidate in enumerate(self.candidates)}
        self.places = places(self.candidates, task.facts)
        limits = task.constraints.limits()
        wanted = [*task.objective.figures, *(name for name in limits if name in LATENCIES)]
        wanted += ["throughput"] if "min_throughput" in limits else []
        self.figures = [name for name in dict.fromkeys(wanted) if name == "throughput" or name in LATENCIES]
        outcomes = [predict(setting, load) for setting, load in self.candidates]
        self.predicted = {
            name: np.log([max(outcome.figure(name), 1e-6) for outcome in outcomes]) for name in self.figures
        }

    def run(self) -> Found:
        """Measures until nothing is worth it, and those that look best were measured again and still do."""
        why = self.explore()
        while measure_again(self.journey, self.best_measured()):
            why = self.explore()
        return self.journey.found(why, ranked_first(self.journey, self.best_measured()))

    def explore(self) -> str:
        """Measures what has a fair chance to be better. Returns why it ended."""
        while not self.journey.over:
            if self.in_vain():
                return f"{_IN_VAIN} measurements in a row were not stable: the machine is too busy, or too slow"
            chosen = self.next()
            if chosen is None:
                return "nothing left has a fair chance to be better"
            place, said, left = chosen
            self.journey.take(*self.candidates[place], said, left=left)
        return "the time was spent"

    def next(self) -> tuple[int, str, float] | None:
        """What to measure: its number, what is hoped for, and how many more may follow."""
        import numpy as np

        known = self.known()
        posterior = {name: self.posterior(name, known) for name in self.figures}
        mean, deviation = self.score(posterior)
        feasible = self.feasible(posterior, known) * self.open()
        best = max((mean[place] for place, one in known.items() if one.verdict == "met"), default=None)
        if best is None:
            place = int(np.argmax(feasible * (mean - mean.min() + MARGIN)))
            if feasible.max() < FAIR_CHANCE:
                return None
            return place, f"feasible with {feasible[place]:.0%}", 2.0 * len(known)
        chance = feasible * _above(mean, deviation, best + MARGIN)
        if chance.max() < FAIR_CHANCE:
            return None
        gain = feasible * _improvement(mean, deviation, best)
        loaded = self.journey.points[-1].setting if self.journey.points else None
        cost = np.array([1.0 if setting == loaded else _LOADING for setting, _ in self.candidates])
        place = int(np.argmax(np.where(chance >= FAIR_CHANCE / 2, gain / cost, 0.0)))
        said = f"expected {_percent(mean[place] - best)}, better with {chance[place]:.0%}"
        return place, said, float(min((chance >= FAIR_CHANCE).sum(), len(known)))

    def in_vain(self) -> bool:
        """Whether nothing comes of it any more."""
        last = [point.status for point in self.journey.points[-_IN_VAIN:]]
        return len(last) == _IN_VAIN and "stable" not in last

    def known(self) -> dict[int, Ranked]:
        """Candidates with stable figures."""
        ranked = {self.number.get((one.point.setting, one.point.load)): one for one in self.journey.ranking()}
        return {place: one for place, one in ranked.items() if place is not None}

    def posterior(self, name: str, known: dict[int, Ranked]) -> tuple[np.ndarray, np.ndarray]:
        """Logarithm of the figure at every candidate: mean and standard deviation."""
        import numpy as np

        rows = [(place, value) for place, one in known.items() if (value := one.point.figure(name))]
        if not rows:
            return self.predicted[name], np.full(len(self.candidates), 0.5)
        errors = [math.log(value) - float(self.predicted[name][place]) for place, value in rows]
        noise = [self.noise(known[place].point, name) for place, _ in rows]
        off, deviation = Process(self.places[[place for place, _ in rows]], errors, noise).at(self.places)
        return self.predicted[name] + off, deviation

    def noise(self, point: Point, name: str) -> float:
        """Standard deviation of the logarithm of a measured figure."""
        found = getattr(point, name)
        least = _NOISE.get(name, _NOISE_OF_LATENCY)
        if not isinstance(found, Interval) or found.low <= 0:
            return least
        return max(least, math.log(found.high / found.low) / 2 / _SIGMAS)

    def score(self, posterior: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        """The objective's, at every candidate."""
        import numpy as np

        mean, variance = np.zeros(len(self.candidates)), np.zeros(len(self.candidates))
        for name, weight in self.task.objective.terms:
            figure = "throughput" if name == "cost" else name
            if figure in posterior:
                mean += weight * posterior[figure][0] * (1 if figure == "throughput" else -1)
                variance += (weight * posterior[figure][1]) ** 2
        return mean, np.sqrt(variance)

    def feasible(self, posterior: dict[str, tuple[np.ndarray, np.ndarray]], known: dict[int, Ranked]) -> np.ndarray:
        """The chance that all constraints are surely met: the interval's upper end, too, keeps to the limit."""
        import numpy as np

        chance = np.ones(len(self.candidates))
        for name, limit in self.task.constraints.limits().items():
            figure = "throughput" if name == "min_throughput" else name
            if figure not in posterior:
                continue
            mean, deviation = posterior[figure]
            usual = float(np.median([self.noise(one.point, figure) for one in known.values()] or [0.0]))
            margin = _SIGMAS * usual / np.sqrt(self.times() + 1)
            off = math.log(limit) - mean - margin
            chance *= _normal((off if figure != "throughput" else -off - 2 * margin) / deviation)
        return chance

    def open(self) -> np.ndarray:
        """1 for what may be measured, 0 for what was, or cannot be used whatever the load is.

        Where the interval holds a limit, more measurements may tell.
        """
        import numpy as np

        unsure = {(one.point.setting, one.point.load) for one in self.journey.ranking() if one.verdict == "unsure"}
        shut = {point.setting for point in self.journey.points if point.status == "refused" or self.too_big(point)}
        most = [TIMES if one in unsure else 1 for one in self.candidates]
        shut_ = np.array([setting in shut for setting, _ in self.candidates])
        return np.where(shut_ | (self.times() >= np.array(most)), 0.0, 1.0)

    def times(self) -> np.ndarray:
        """How often each candidate was measured."""
        import numpy as np

        counts = Counter((point.setting, point.load) for point in self.journey.points)
        return np.array([counts[one] for one in self.candidates])

    def too_big(self, point: Point) -> bool:
        """Whether it takes more memory than there may be: no load changes that."""
        limit, used = self.task.constraints.memory_mb, point.figure("memory_mb")
        return limit is not None and used is not None and used > limit

    def best_measured(self) -> list[tuple[Setting, Load]]:
        """Finalists: by what the process makes of the measurements, which discounts luck."""
        known = self.known()
        if not known:
            return []
        mean, _ = self.score({name: self.posterior(name, known) for name in self.figures})
        allowed = set(best_of(tuple(known.values())))
        ordered = sorted(known, key=lambda place: -mean[place])
        return [self.candidates[place] for place in ordered if self.candidates[place] in allowed]


def _normal(deviations: np.ndarray) -> np.ndarray:
    """The normal distribution function."""
    import numpy as np

    return np.array([0.5 * (1 + math.erf(each / math.sqrt(2))) for each in deviations])


def _above(mean: np.ndarray, deviation: np.ndarray, limit: float) -> np.ndarray:
    return _normal((mean - limit) / deviation)


def _improvement(mean: np.ndarray, deviation: np.ndarray, best: float) -> np.ndarray:
    """Expected improvement over ``best``."""
    import numpy as np

    off = (mean - best) / deviation
    improvement: np.ndarray = deviation * (off * _normal(off) + np.exp(-0.5 * off**2) / math.sqrt(2 * math.pi))
    return improvement


def _percent(off: float) -> str:
    return f"{math.expm1(off):+.1%}"
