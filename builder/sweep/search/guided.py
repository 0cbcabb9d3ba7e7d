"""The search that thinks: a calibrated simulation says what to expect, measurements say where it errs.

1. *Calibration*: a handful of measurements fit the parameters of the simulation (:mod:`.calibration`, :mod:`.model`).
2. The simulation predicts every setting under every load. What it gets wrong is learned from all that was measured, as
   a smooth function of the knobs with an uncertainty (:mod:`.belief`, :mod:`.gaussian`).
3. Each way to share the processors among copies and threads is looked into once: none is dismissed unseen.
4. The next measurement is where the expected improvement over the best so far is greatest, times the chance that the
   constraints hold; another load of the setting that is loaded costs less than loading another setting. Of a setting
   that is new, the best load is bisected from there (:mod:`.concurrency`).
5. It ends when no candidate has a fair chance to beat the best by more than the noise, or when it has cost a tenth of
   what trying everything would.
6. *Finalists*: the best few are measured again, in turn, and pooled (:mod:`.finalists`). Where that takes some of
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
from builder.sweep.search.belief import Belief
from builder.sweep.search.calibration import calibrated, questions
from builder.sweep.search.concurrency import Axis
from builder.sweep.search.finalists import MOST, best_of, measure_again, ranked_first
from builder.sweep.search.model import Reading
from builder.sweep.search.places import places, twins
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

FAIR_CHANCE: Final = 0.03
"""Of beating the best by more than the noise: below it, nothing is measured any more."""

_OF_THE_BEST: Final = 0.01
"""The same for another load of one of the best settings."""

MARGIN: Final = 0.02
"""The noise, as a difference of scores: 2 % of throughput."""

MOST_CANDIDATES: Final = 5000
"""Pairs of setting and load that are looked at; of more settings some are, by chance."""

_EVEN: Final = 0.4  # chance to be feasible
_PATIENCE: Final = 0.25  # of the budget may be spent when a calibration is tried a second time
_IN_VAIN: Final = 10
_MOST_CLASSES: Final = 8  # ways to share the processors that are looked into
_FAR_BEHIND: Final = 1.0  # of the score: a way with less than 37 % of the best one's throughput is not looked into
_WHILE_UNSURE: Final = 8  # measurements of what may hold the constraints, or not
_LEAST_EFFORT: Final = 40  # measurements, before the finalists
_MOST_EFFORT: Final = 0.1  # of the measurements that it would take to bisect every setting
_LOADING: Final = 2.0  # what a measurement costs that needs another setting, against one that does not


def search(task: Task, measure: Measure, told: Told, calibrate: Calibrate | None = None) -> Found:
    """Searches. ``calibrate``: makes a prediction of the calibration's answers; for experiments."""
    journey = Journey(task, measure, told)
    asked, chance = list(questions(task)), random.Random(task.seed)  # noqa: S311 - not for secrets
    chance.shuffle(asked)
    answers = []
    for number, question in enumerate(asked):
        if journey.over:
            break
        left = 2 * len(asked) - number - 1
        point = journey.take(question.setting, question.load, "calibration", left=left)
        if point.status == "unstable" and journey.spent < _PATIENCE * (task.budget_seconds or math.inf):
            point = journey.take(question.setting, question.load, "calibration, once more", left=left, times=2.0)
        answers.append((question, point))
    predict = calibrate(task, answers) if calibrate else calibrated(task, answers).predict
    return _Guided(journey, predict, _some(task, chance)).run()


def _some(task: Task, chance: random.Random) -> tuple[Setting, ...]:
    """The settings, or as many by chance as can be simulated in a few seconds."""
    most = max(1, MOST_CANDIDATES // len(task.loads))
    return task.settings if len(task.settings) <= most else tuple(chance.sample(task.settings, most))


class _Guided:
    """Candidates are all pairs of setting and load."""

    def __init__(self, journey: Journey, predict: Predict, settings: Sequence[Setting]) -> None:
        task = journey.task
        self.journey, self.task = journey, task
        self.among = f" of {len(settings)} settings by chance" if len(settings) < len(task.settings) else ""
        self.candidates = [(setting, load) for setting in settings for load in task.loads]
        self.bisected: set[Setting] = set()
        bisected = len(settings) * (1 + math.ceil(math.log2(len(task.loads))))  # what to try everything would take
        self.most = max(_LEAST_EFFORT, round(_MOST_EFFORT * bisected))
        self.number = {candidate: place for place, candidate in enumerate(self.candidates)}
        outcomes = [predict(setting, load) for setting, load in self.candidates]
        loads = [load for _, load in self.candidates]
        located = places(self.candidates, task.facts)[twins(self.candidates, outcomes)]
        self.belief = Belief(task, loads, located, outcomes)

    def run(self) -> Found:
        """Measures until nothing is worth it, and those that look best were measured again and still do."""
        self.look_into_each_class()
        why = self.explore()
        while self.look_around() or measure_again(self.journey, self.best_measured()):
            why = self.explore()
        return self.journey.found(why, ranked_first(self.journey, self.best_measured()))

    def look_into_each_class(self) -> None:
        """Measures the most promising candidate of each way to use the processors: none is dismissed unseen.

        How copies and threads share cores and memory is what a simulation errs in most, and what it gets wrong of one
        class says little of another.
        """
        import numpy as np

        classes: dict[object, list[int]] = {}
        for place, (setting, _) in enumerate(self.candidates):
            reading = Reading.of(setting, self.task.facts)
            gathers = reading.scheduler.largest > 1
            classes.setdefault((reading.instances, reading.threads, reading.build, gathers), []).append(place)
        self.learn()
        times = self.times()
        hope = self.belief.hope(-1e9, 0.0, times)
        worth = hope.score + np.log(np.maximum(hope.feasible, 1e-9))
        best = sorted((max(places_, key=worth.__getitem__) for places_ in classes.values()), key=lambda p: -worth[p])
        for place in best[:_MOST_CLASSES]:
            promising = worth[place] >= worth[best[0]] - _FAR_BEHIND
            if promising and not times[place] and not self.journey.over:
                self.journey.take(*self.candidates[place], "the most promising with as many copies and threads")

    def explore(self) -> str:
        """Measures what has a fair chance to be better. Returns why it ended."""
        while not self.journey.over:
            if len(self.journey.points) >= self.most:
                return f"{self.most} measurements were spent: what is left costs more than it is likely to bring"
            if self.in_vain():
                return f"{_IN_VAIN} measurements in a row were not stable: the machine is too busy, or too slow"
            chosen = self.next()
            if chosen is None:
                return f"nothing left{self.among} has a fair chance to be better"
            place, said, left = chosen
            self.explore_at(*self.candidates[place], said, left)
        return "the time was spent"

    def explore_at(self, setting: Setting, load: Load, said: str, left: float) -> None:
        """Of a setting that is new, the best load, beginning where it is expected; else that load alone."""
        if setting in self.bisected:
            self.journey.take(setting, load, said, left=left)
            return
        self.bisected.add(setting)

        def probe(index: int, times: float) -> Point:
            return self.journey.take(setting, self.task.loads[index], said, left=left, times=times)

        Axis(self.task, probe).search(self.task.loads.index(load))

    def look_around(self) -> bool:
        """Measures the next loads of the finalists, where they may be feasible: it costs little. Says whether it did.

        More load than that of the best is what bisection would try, too; less may be as good where more is worse.
        """
        finalists = self.best_measured()[:MOST]
        times = self.times()
        worth = self.belief.hope(0.0, 0.0, times).feasible * self.open(times)
        beside = (1,) if self.task.objective.rises_with_load else (1, -1)
        loads = self.task.loads
        around = [(one, loads.index(load) + step) for one, load in finalists for step in beside]
        chosen = [(one, loads[index]) for one, index in around if 0 <= index < len(loads)]
        new = [one for one in chosen if times[self.number[one]] == 0]
        taken = [one for one in new if worth[self.number[one]] >= _EVEN and not self.journey.over]
        for setting, load in taken:
            self.journey.take(setting, load, "another load of one of the best")
        return bool(taken)

    def next(self) -> tuple[int, str, float] | None:
        """What to measure: its number, what is hoped for, and how many more may follow."""
        import numpy as np

        known = self.known()
        self.learn()
        score, times = self.belief.score, self.times()
        met = [place for place, one in known.items() if one.verdict == "met"]
        best = max(score[met]) if met else score.min()
        hope = self.belief.hope(best, MARGIN if met else 0.0, times)
        chance = hope.better * self.open(times)
        best_settings = {setting for setting, _ in self.best_first(known)[:MOST]}
        bar = np.array([_OF_THE_BEST if setting in best_settings else FAIR_CHANCE for setting, _ in self.candidates])
        fair = chance >= bar
        if not fair.any():
            return None
        loaded = self.journey.points[-1].setting if self.journey.points else None
        cost = np.array([1.0 if setting == loaded else _LOADING for setting, _ in self.candidates])
        place = int(np.argmax(np.where(fair, hope.gain / cost, -1.0)))
        said = f"expected {math.expm1(score[place] - best):+.1%}, better with {chance[place]:.0%}" if met else ""
        left = float(min(fair.sum(), len(self.journey.points)))
        return place, said or f"feasible with {hope.feasible[place]:.0%}", left

    def in_vain(self) -> bool:
        """Whether nothing comes of it any more."""
        last = [point.status for point in self.journey.points[-_IN_VAIN:]]
        return len(last) == _IN_VAIN and "stable" not in last

    def known(self) -> dict[int, Ranked]:
        """Candidates with stable figures."""
        ranked = {self.number.get((one.point.setting, one.point.load)): one for one in self.journey.ranking()}
        return {place: one for place, one in ranked.items() if place is not None}

    def learn(self) -> None:
        """Has the belief know all stable points."""
        points: dict[int, list[Point]] = {}
        for point in self.journey.points:
            place = self.number.get((point.setting, point.load))
            if place is not None and point.status == "stable":
                points.setdefault(place, []).append(point)
        self.belief.learn(points)

    def open(self, times: np.ndarray) -> np.ndarray:
        """1 for what may be measured, 0 for what was, or cannot be used whatever the load is.

        Where the interval holds a limit, more measurements may tell; what was not stable gets a second chance.
        """
        import numpy as np

        known = self.known()
        unsure = {place for place, one in known.items() if one.verdict == "unsure" or self.just_missed(one.point)}
        shut = {point.setting for point in self.journey.points if point.status == "refused" or self.too_big(point)}
        shaky = {self.number.get((one.setting, one.load)) for one in self.journey.points if one.status == "unstable"}
        most = np.array([_WHILE_UNSURE if one in unsure else 1 + (one in shaky) for one in range(len(self.candidates))])
        return np.where(np.array([setting in shut for setting, _ in self.candidates]) | (times >= most), 0.0, 1.0)

    def times(self) -> np.ndarray:
        """How often each candidate was measured."""
        import numpy as np

        counts = Counter((point.setting, point.load) for point in self.journey.points)
        return np.array([counts[one] for one in self.candidates])

    def just_missed(self, point: Point) -> bool:
        """Whether what misses a limit reaches it within its interval: it may be bad luck."""
        limits = self.task.constraints.limits()
        found = [(getattr(point, name, None), limit) for name, limit in limits.items() if name in LATENCIES]
        return bool(found) and all(isinstance(one, Interval) and one.low <= limit for one, limit in found)

    def too_big(self, point: Point) -> bool:
        """Whether it takes more memory than there may be: no load changes that."""
        limit, used = self.task.constraints.memory_mb, point.figure("memory_mb")
        return limit is not None and used is not None and used > limit

    def best_measured(self) -> list[tuple[Setting, Load]]:
        """Finalists: by what is believed of them, which discounts luck."""
        self.learn()
        return self.best_first(self.known())

    def best_first(self, known: dict[int, Ranked]) -> list[tuple[Setting, Load]]:
        """Of what was measured, those that may win, the best that is believed first."""
        score, allowed = self.belief.score, set(best_of(tuple(known.values())))
        ordered = sorted(known, key=lambda place: -score[place])
        return [self.candidates[place] for place in ordered if self.candidates[place] in allowed]
