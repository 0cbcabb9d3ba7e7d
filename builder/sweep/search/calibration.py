"""Which measurements tell most about the server, and what they make of the model."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from builder.sweep.search.model import PURPOSES, Calibrated, Reading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.sweep.load import Load
    from builder.sweep.point import Point
    from builder.sweep.search.task import Task
    from builder.sweep.setting import Setting

_WAITING = 2  # requests for each instance: one runs, one waits


@dataclass(frozen=True, slots=True)
class Question:
    """A measurement and the parameter that it is for."""

    purpose: str
    setting: Setting
    load: Load


def questions(task: Task) -> tuple[Question, ...]:
    """One or two for each thread count, and one for each other parameter that the task's settings have a use for."""
    readings = {setting: Reading.of(setting, task.facts) for setting in task.settings}
    threads = sorted({reading.threads for reading in readings.values()})
    counts = sorted({reading.instances for reading in readings.values()})
    wide = max([each for each in threads if each <= task.facts.cores] or threads[:1])
    one, many = _loads(task, counts[-1])
    largest = max(reading.scheduler.largest for reading in readings.values())
    base = task.settings[0].build
    asked = [Question("alone", _closest(readings, counts[0], each, 1, base), many) for each in threads]
    asked.append(Question("overhead", _closest(readings, counts[0], wide, 1, base), one))
    if largest > 1:
        asked.append(Question("share", _closest(readings, counts[0], wide, largest, base), _most(task, many)))
    for each in threads:
        beside = max([count for count in counts if count * each <= task.facts.cores] or counts[:1])
        if beside > counts[0]:
            asked.append(Question("crowd", _closest(readings, beside, each, 1, base), many))
    if counts[-1] * threads[-1] > max(task.facts.cores, threads[-1]):
        asked.append(Question("fight", _closest(readings, counts[-1], threads[-1], 1, base), many))
    builds = dict.fromkeys(setting.build for setting in task.settings if setting.build != base)
    asked += [Question("speed", _closest(readings, counts[0], wide, 1, build), many) for build in builds]
    return tuple(dict.fromkeys(asked))


def calibrated(task: Task, answers: Sequence[tuple[Question, Point]]) -> Calibrated:
    """The model that agrees with the stable answers; what nothing was said of stays at a plausible value."""
    model = Calibrated(task.facts)
    stable = [(question, point) for question, point in answers if point.status == "stable"]
    for _ in range(2):  # the parameters depend on each other a little
        for purpose in PURPOSES:
            for question, point in stable:
                if question.purpose == purpose:
                    model = model.fitted(purpose, point)
    return model


def _loads(task: Task, instances: int) -> tuple[Load, Load]:
    """One request at a time, and as many as keep every instance busy; of the task's loads where they have them."""
    like = task.loads[0]
    closed = [load for load in task.loads if load.concurrency]
    wanted = _WAITING * instances
    enough = [load for load in closed if (load.concurrency or 0) >= wanted]
    one = closed[0] if closed else replace(like, rate=None, concurrency=1)
    return one, enough[0] if enough else replace(like, rate=None, concurrency=wanted)


def _most(task: Task, many: Load) -> Load:
    """The greatest load of the task, so that batches fill."""
    return task.loads[-1] if task.loads[-1].concurrency else replace(many, concurrency=4 * (many.concurrency or 1))


def _closest(readings: Mapping[Setting, Reading], count: int, threads: int, largest: int, build: Setting) -> Setting:
    """The setting that is most like this one, and has the fewest other things about it."""

    def distance(setting: Setting) -> tuple[float, float, int]:
        reading = readings[setting]
        scheduler = reading.scheduler
        off = abs(math.log(reading.instances / count)) + abs(math.log(reading.threads / threads))
        off += 0.0 if reading.build == build else 100.0
        return (
            off,
            abs(math.log(scheduler.largest / largest)),
            round(scheduler.delay_ms * 1000) + len(scheduler.preferred),
        )

    return min(readings, key=distance)
