"""Conducts a sweep: opens the subject, searches, measures, records, and says what came of it as one value."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from builder.sweep import self_test as itself
from builder.sweep.bench import Bench
from builder.sweep.live import RefusedError
from builder.sweep.objective import rank, winner
from builder.sweep.record import Record, Recorded
from builder.sweep.reference import held_against
from builder.sweep.search import search
from builder.sweep.search.task import Found, Journey, joined, together
from builder.sweep.setting import Setting
from builder.sweep.subject import open_subject
from builder.sweep.telling import tell
from builder.sweep.wanted import determines, options_of, task_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.artifacts import Json
    from builder.sweep.compare import Verdict
    from builder.sweep.point import Point
    from builder.sweep.profiles import Profile
    from builder.sweep.search.task import Task
    from builder.sweep.self_test import SelfTest
    from builder.sweep.subject import Subject
    from builder.sweep.swept import Swept
    from builder.sweep.wanted import Wanted

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """After each point."""

    number: int
    point: Point
    best: Point | None
    left_seconds: float | None  # an estimate
    why: str  # it was measured


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a sweep."""

    swept: Swept
    subject: Subject
    measured: int  # points that were not in the record


class _EnoughError(Exception):
    """So many points as were asked for."""


@dataclass
class _Diary:
    """What the search said of each point; ends it after so many."""

    told: Callable[[Progress], None]
    most: int | None
    points: list[Point] = field(default_factory=list)
    why: list[str] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether there are as many as may be."""
        return self.most is not None and len(self.points) >= self.most

    def note(self, point: Point, best: Point | None, left: float | None, why: str) -> None:
        self.points.append(point)
        self.why.append(why)
        if left is not None and self.most is not None:
            each = sum(one.seconds for one in self.points) / len(self.points)
            left = min(left, each * (self.most - len(self.points)))
        self.told(Progress(len(self.points), point, best, left, why))

    def write(self, point: Point, best: Point | None, left: float | None, why: str) -> None:
        self.note(point, best, left, why)
        if self.full:
            raise _EnoughError


def sweep(wanted: Wanted, told: Callable[[Progress], None] = lambda _: None) -> Outcome:
    """Sweeps. What the record has is not measured again.

    Args:
        wanted: what and how.
        told: called after each point.

    Raises:
        UserError: the subject, a knob or the load is wrong.
        TritonsmithError: the subject cannot be built or served.
    """
    began = time.monotonic()
    subject = open_subject(wanted.path, options_of(wanted))
    tasks = [task_of(wanted.sending(batch), subject) for batch in wanted.batches]
    task = joined(tasks)
    log.info("%s: %d settings, %d loads", subject.name, len(task.settings), len(task.loads))
    diary = _Diary(told, wanted.points)
    with Record.open(wanted.record_path) as record, Bench(subject) as bench:
        recorded = Recorded(record, bench.measure, lambda one: _determines(bench, one), fresh=wanted.fresh)
        found = _searched(wanted, tasks, recorded, diary)
        journey = Journey(task, recorded, diary.note, list(diary.points))
        found, as_it_is = held_against(found, journey, closely=not diary.full)
    swept = tell(wanted, subject, task, found, list(zip(diary.points, diary.why, strict=True)), as_it_is)
    ended = datetime.now(UTC).isoformat(timespec="seconds")
    spent = max(time.monotonic() - began, sum(point.seconds for point in diary.points))  # what the record had, too
    _remark(diary.points, recorded)
    return Outcome(replace(swept, seconds=spent, at=ended), subject, recorded.measured)


def _determines(bench: Bench, setting: Setting) -> dict[str, Json] | None:
    """None: it cannot be built, today."""
    try:
        return determines(bench.variant(setting))
    except RefusedError:
        return None


def _remark(points: Sequence[Point], recorded: Recorded) -> None:
    """A machine that was busy once is not busy for ever."""
    shaky = sum(point.status != "stable" for point in points)
    if shaky and recorded.found:
        log.info("%d of %d points are not stable; --fresh measures anew what the record has", shaky, len(points))


def self_test(wanted: Wanted, told: Callable[[int, int, dict[str, Verdict]], None]) -> SelfTest:
    """Compares the subject as it is with itself, under the middle one of the loads: see :mod:`.self_test`."""
    subject = open_subject(wanted.path, options_of(wanted))
    levels = wanted.load.levels
    load = levels[(len(levels) - 1) // 2].load
    with Bench(subject) as bench:
        return itself.self_test(lambda: bench.measure(Setting(), load, wanted.seconds), told)


def _searched(wanted: Wanted, tasks: Sequence[Task], recorded: Recorded, diary: _Diary) -> Found:
    """Each task in turn: they share the time that there is."""
    found: list[Found] = []
    for number, (task, batch) in enumerate(zip(tasks, wanted.batches, strict=True)):
        if diary.full:
            break
        spent = sum(point.seconds for point in diary.points)
        budget = task.budget_seconds
        share = None if budget is None else max(0.0, budget - spent) / (len(tasks) - number)
        found.append(_one_searched(wanted.sending(batch), replace(task, budget_seconds=share), recorded, diary))
    return found[0] if len(found) == 1 else together(found)


def _one_searched(wanted: Wanted, task: Task, recorded: Recorded, diary: _Diary) -> Found:
    before = len(diary.points)
    try:
        if not wanted.searches:
            return _profiled(wanted.load, task, recorded, diary)
        return search(wanted.search_name, task, recorded, diary.write)
    except _EnoughError:
        journey = Journey(task, recorded, diary.note, diary.points[before:])
        return journey.found(f"ended after {wanted.points} points, as asked")


def _profiled(load: Profile, task: Task, recorded: Recorded, diary: _Diary) -> Found:
    """Every setting goes through the profile."""
    left: float | None = None
    before = len(diary.points)

    def told(point: Point) -> None:
        best = winner(rank([*diary.points, point], task.objective, task.constraints))
        diary.write(point, best.point if best else None, left, f"{load.kind} profile")

    for number, setting in enumerate(task.settings):
        spent = sum(point.seconds for point in diary.points[before:])
        if task.budget_seconds is not None and spent >= task.budget_seconds:
            break
        if number:
            left = spent / number * (len(task.settings) - number)
        load.points(recorded, setting, task.seconds, told)
    points = tuple(diary.points[before:])
    ranking = rank(points, task.objective, task.constraints)
    tried = len({point.setting for point in points})
    return Found(points, ranking, f"{tried} of {len(task.settings)} settings went through the profile")
