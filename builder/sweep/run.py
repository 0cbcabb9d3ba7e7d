"""Conducts a sweep: opens the subject, searches, measures, records, and says what came of it as one value."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from builder.core.digest import digest_json
from builder.core.report import Reporter, Silent
from builder.recipe.verify import Verify
from builder.settings import settings
from builder.sweep import lengths, profiles, space, statistics
from builder.sweep import self_test as itself
from builder.sweep.bench import Bench
from builder.sweep.load import Load
from builder.sweep.objective import Constraints, Objective, judged, rank, winner
from builder.sweep.record import NAME, Record, Recorded
from builder.sweep.search import search
from builder.sweep.search.task import Found, Task
from builder.sweep.setting import Setting
from builder.sweep.subject import Options, open_subject
from builder.sweep.swept import Aim, Served, Step, Swept, Tried
from builder.tools import hardware

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from builder.artifacts import Json
    from builder.recipe import AnyRecipe
    from builder.sweep.compare import Verdict
    from builder.sweep.objective import Ranked
    from builder.sweep.point import Point
    from builder.sweep.profiles import Profile
    from builder.sweep.self_test import SelfTest
    from builder.sweep.setting import Value
    from builder.sweep.subject import Subject

log = logging.getLogger(__name__)

_SEEN: Final = "as it is"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be swept, and how. None: as the recipe says.

    Args:
        path: a recipe, an archive or a model repository.
        recipe: whose section ``verify`` counts, where ``path`` is none.
        target: of the recipe.
        overrides: ``KEY=VALUE``, as with ``--set``.
        search: guided, exhaustive or random.
        seed: of all that is left to chance.
        profile: what is sent: ``--load``.
        sent: fields of :class:`Load` that the profile does not say: batch, protocol, shared_memory.
        points: how many are measured at most.
        budget_seconds: no measurement begins after so much measuring.
        seconds: of each measurement.
        record: the file of the record; None: in the user's cache.
        fresh: measure anew what the record has.
        out: where a recipe's archive goes.
        reporter: who is told of the stages of a build.
    """

    path: Path
    recipe: AnyRecipe | None = None
    target: str | None = None
    overrides: tuple[str, ...] = ()
    search: str | None = None
    seed: int = 0
    profile: str | None = None
    sent: Mapping[str, Any] = field(default_factory=dict)
    points: int | None = None
    budget_seconds: float | None = None
    seconds: float = 1.5
    record: Path | None = None
    fresh: bool = False
    out: Path | None = None
    reporter: Reporter = field(default=Silent(), compare=False)

    @property
    def verify(self) -> Verify:
        """The recipe's section, or the defaults."""
        return Verify() if self.recipe is None else self.recipe.verify

    @property
    def load(self) -> Profile:
        """What is sent: as the command line says, or the recipe."""
        said = self.verify.sweep
        own = said.load
        like = replace(Load(1, None, own.arrivals, own.batch, own.protocol, own.shared_memory), **self.sent)
        if self.profile is not None:
            return profiles.parse(self.profile, like)
        return profiles.closed(said.concurrency, like) if own.rate is None else profiles.open_loop(own.rate, like)

    @property
    def record_path(self) -> Path:
        """Where points are kept."""
        return self.record or settings().cache / NAME


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

    def write(self, point: Point, best: Point | None, left: float | None, why: str) -> None:
        self.points.append(point)
        self.why.append(why)
        self.told(Progress(len(self.points), point, best, left, why))
        if self.most is not None and len(self.points) >= self.most:
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
    task = task_of(wanted, subject)
    log.info("%s: %d settings, %d loads", subject.name, len(task.settings), len(task.loads))
    diary = _Diary(told, wanted.points)
    with Record.open(wanted.record_path) as record, Bench(subject) as bench:
        recorded = Recorded(record, bench.measure, lambda one: determines(subject, wanted, one), fresh=wanted.fresh)
        found = _searched(wanted, task, recorded, diary)
        as_it_is = _as_it_is(found, task, recorded, diary)
    swept = _swept(wanted, subject, task, found, diary, as_it_is)
    ended = datetime.now(UTC).isoformat(timespec="seconds")
    spent = max(time.monotonic() - began, sum(point.seconds for point in diary.points))  # what the record had, too
    _remark(diary.points, recorded)
    return Outcome(replace(swept, seconds=spent, at=ended), subject, recorded.measured)


def _remark(points: Sequence[Point], recorded: Recorded) -> None:
    """A machine that was busy once is not busy for ever."""
    shaky = sum(point.status in {"unstable", "saturated"} for point in points)
    if shaky and recorded.found:
        log.info("%d of %d points are not stable; --fresh measures anew what the record has", shaky, len(points))


def options_of(wanted: Wanted) -> Options:
    """How the subject is opened."""
    said = wanted.verify.sweep.lengths
    made: dict[str, Any] = {}
    if said is not None and said.samples is not None:
        made["samples"] = said.samples
    elif said is not None:
        made["lengths"] = lengths.from_json(said.model_dump(exclude_none=True))
    if wanted.out is not None:
        made["out"] = wanted.out
    made |= {"seed": wanted.seed, "reporter": wanted.reporter}
    return Options(target=wanted.target, overrides=wanted.overrides, **made)


def task_of(wanted: Wanted, subject: Subject) -> Task:
    """What is searched.

    Raises:
        UserError: a knob or its value does not fit the subject, or the objective has no price.
    """
    said = wanted.verify
    loads = sorted({level.load for level in wanted.load.levels}, key=lambda load: load.concurrency or load.rate or 0)
    facts = facts_of(subject, loads[0].batch)
    knobs = said.sweep.knobs
    found = space.parse(knobs, facts) if knobs else space.default_space(facts)
    for knob in found.knobs:
        subject.model_of("" if knob.name.startswith("@") else knob.name.rpartition(":")[0])
    limits = said.constraints.model_dump(exclude_none=True)
    goal = said.objective if isinstance(said.objective, str) else dict(said.objective)
    return Task(
        found.settings(),
        tuple(loads),
        Objective.parse(goal, said.sweep.price_per_hour),
        Constraints(**limits),
        facts,
        wanted.seconds,
        wanted.seed,
        wanted.budget_seconds,
    )


def facts_of(subject: Subject, client_batch: int) -> space.Facts:
    """What of the machine and the subject decides what can be told apart."""
    steps = {
        "" if model == subject.main else model.removeprefix(f"{subject.name}-"): int(config.get("max_batch_size", 0))
        for model, config in subject.configs.items()
        if model in subject.steps
    }
    machine = hardware.detect()
    before = tuple(model for model in subject.steps if model != subject.main)
    cores = int(machine.usable_cpus) or 1
    return space.Facts(cores, len(machine.gpus), steps, client_batch, own_values(subject), before)


def own_values(subject: Subject) -> dict[str, Value]:
    """The main model's own values, by knob."""
    config: Mapping[str, Any] = subject.configs[subject.main]
    groups, batching = config.get("instance_group", [{}]), config.get("dynamic_batching")
    threads = config.get("parameters", {}).get("intra_op_thread_count", {}).get("string_value", "")
    made: dict[str, Value] = {
        space.COUNT: int(groups[0].get("count", 1)) if groups else 1,
        space.MAX_BATCH_SIZE: int(config.get("max_batch_size", 0)),
        space.BATCHING: batching is not None and list(batching.get("preferred_batch_size", [])) != [1],
        space.DELAY: int((batching or {}).get("max_queue_delay_microseconds", 0)),
    }
    return made | ({space.THREADS: int(threads)} if threads.isdecimal() else {})


def determines(subject: Subject, wanted: Wanted, setting: Setting) -> dict[str, Json]:
    """All that determines a point beside setting, load and seconds: subject, server and hardware, measuring rules."""
    said: dict[str, Json] = {"subject": subject.digest, "rules": statistics.RULES}
    if setting.build.values and wanted.recipe is not None:  # another archive: what it is made of is the recipe
        said["recipe"] = digest_json(wanted.recipe.keyed())
    return said


def self_test(wanted: Wanted, told: Callable[[int, int, dict[str, Verdict]], None]) -> SelfTest:
    """Compares the subject as it is with itself, under the middle one of the loads: see :mod:`.self_test`."""
    subject = open_subject(wanted.path, options_of(wanted))
    levels = wanted.load.levels
    load = levels[(len(levels) - 1) // 2].load
    with Bench(subject) as bench:
        return itself.self_test(lambda: bench.measure(Setting(), load, wanted.seconds), told)


def _searched(wanted: Wanted, task: Task, recorded: Recorded, diary: _Diary) -> Found:
    name = wanted.search or wanted.verify.sweep.search
    try:
        if wanted.load.kind == "ramp" or wanted.load.stop is not None:
            return _profiled(wanted.load, task, recorded, diary)
        return search(name, task, recorded, diary.write)
    except _EnoughError:
        ranking = rank(diary.points, task.objective, task.constraints)
        return Found(tuple(diary.points), ranking, f"ended after {wanted.points} points, as asked")


def _profiled(load: Profile, task: Task, recorded: Recorded, diary: _Diary) -> Found:
    """Every setting goes through the profile: where one ends only its own points tell, so nothing can be left out."""

    def told(point: Point) -> None:
        best = winner(rank([*diary.points, point], task.objective, task.constraints))
        diary.write(point, best.point if best else None, None, f"{load.kind} profile")

    for setting in task.settings:
        load.points(recorded, setting, task.seconds, told)
        if task.budget_seconds is not None and sum(point.seconds for point in diary.points) >= task.budget_seconds:
            break
    ranking = rank(diary.points, task.objective, task.constraints)
    tried = len({point.setting for point in diary.points})
    return Found(tuple(diary.points), ranking, f"{tried} of {len(task.settings)} settings went through the profile")


def _as_it_is(found: Found, task: Task, recorded: Recorded, diary: _Diary) -> Ranked | None:
    """The subject without changes, under the load of the winner: what the winner is held against."""
    if found.winner is None:
        return None
    point = recorded(Setting(), found.winner.point.load, task.seconds)
    diary.points.append(point)
    diary.why.append(_SEEN)
    return judged(point, task.objective, task.constraints)


def _swept(wanted: Wanted, subject: Subject, task: Task, found: Found, diary: _Diary, as_it_is: Ranked | None) -> Swept:
    def tried(one: Ranked, why: str = "") -> Tried:
        return Tried.of(one.point, one.verdict, one.score, why)

    points = [judged(point, task.objective, task.constraints) for point in diary.points]
    names = dict.fromkeys(knob for setting in task.settings for knob in setting.as_dict())
    values = {knob: dict.fromkeys(one.get(knob) for one in task.settings if knob in one.as_dict()) for knob in names}
    return Swept(
        served=_served(wanted, subject),
        hardware=hardware.detect(),
        versions=_versions(subject),
        method=_method(wanted, task),
        knobs={knob: tuple(found) for knob, found in values.items()},
        aim=Aim(dict(task.objective.terms), task.objective.price_per_hour),
        constraints=task.constraints.limits(),
        tried=tuple(tried(one, why) for one, why in zip(points, diary.why, strict=True)),
        ranking=tuple(tried(one) for one in found.ranking),
        as_it_is=None if as_it_is is None else tried(as_it_is, _SEEN),
        ended=found.why,
        candidates=len(task.settings),
    )


def _served(wanted: Wanted, subject: Subject) -> Served:
    kind: Literal["recipe", "archive", "repository"] = "repository" if wanted.path.is_dir() else "archive"
    if subject.recipe is not None:
        kind = "recipe"
    steps = []
    for model in subject.steps:
        groups = subject.configs[model].get("instance_group", [])
        name = "" if model == subject.main else model.removeprefix(f"{subject.name}-")
        steps.append(Step(name, model, sum(int(group.get("count", 1)) for group in groups) or 1))
    target = subject.options.target if subject.recipe is not None else None
    return Served(subject.name, kind, wanted.path.name, subject.digest, target, tuple(steps))


def _versions(subject: Subject) -> dict[str, str]:
    from builder import __version__
    from builder.tools.releases import release

    serving = subject.record.get("serving", {})
    return {
        "tritonsmith": __version__,
        "Triton": f"{subject.triton} ({release(subject.triton).server_version})",
        "toolchain": str(serving.get("toolchain", "")),
        "onnxruntime": str(serving.get("onnxruntime", "")),
    }


def _method(wanted: Wanted, task: Task) -> dict[str, str]:
    return {
        "search": f"{wanted.search or wanted.verify.sweep.search}, seed {wanted.seed}",
        "loads": "; ".join(load.label for load in task.loads),
        "measurement": f"{task.seconds:g} s by perf_analyzer, and up to three times as long where windows disagree",
        "windows": f"{statistics.LEAST_WINDOWS} to {statistics.MOST_WINDOWS} of about as many requests each, without "
        "ramp-up and drain",
        "interval": f"{statistics.CONFIDENCE:.0%}, bootstrap over the windows, seeded",
        "stable": f"the throughput is known to ± {statistics.MOST_SPREAD:.0%}, and drifts by no more",
    }
