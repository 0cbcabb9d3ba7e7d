"""What a user asks a sweep for, and what becomes of it for a subject: the task of a search."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from builder.core.report import Reporter, Silent
from builder.errors import UserError
from builder.recipe.verify import Verify
from builder.settings import settings
from builder.sweep import lengths, profiles, space, statistics
from builder.sweep.knobs import changes, turned_off
from builder.sweep.load import Load
from builder.sweep.objective import Constraints, Objective
from builder.sweep.record import NAME
from builder.sweep.search.task import Task
from builder.sweep.setting import Setting
from builder.sweep.subject import Options
from builder.tools import hardware

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.artifacts import Json
    from builder.recipe import AnyRecipe
    from builder.sweep.profiles import Profile
    from builder.sweep.setting import Value
    from builder.sweep.subject import Subject


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
        like = replace(Load(1, None, own.arrivals, self.batches[0], own.protocol, own.shared_memory), **self.sent)
        if self.profile is not None:
            return profiles.parse(self.profile, like)
        if own.rate is not None:
            return profiles.open_loop(own.rate, like)
        return profiles.closed(profiles.between(said.concurrency), like)

    @property
    def batches(self) -> tuple[int, ...]:
        """How many items a request has: each is swept by itself."""
        said = self.sent.get("batch", self.verify.sweep.load.batch)
        return (said,) if isinstance(said, int) else tuple(said)

    def sending(self, batch: int) -> Wanted:
        """The same with so many items in each request."""
        return replace(self, sent={**self.sent, "batch": batch})

    @property
    def search_name(self) -> str:
        """How what is measured is chosen."""
        return self.search or self.verify.sweep.search

    @property
    def searches(self) -> bool:
        """Whether anything is chosen. Where a profile ends only its own points tell: nothing of it can be left out."""
        return self.load.kind != "ramp" and self.load.stop is None

    @property
    def record_path(self) -> Path:
        """Where points are kept."""
        return self.record or settings().cache / NAME


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
    assert len(wanted.batches) == 1, wanted.batches
    said = wanted.verify
    loads = sorted({level.load for level in wanted.load.levels}, key=lambda load: load.concurrency or load.rate or 0)
    facts = facts_of(subject, loads[0].batch)
    knobs = of_main(subject, said.sweep.knobs)
    found = space.parse(knobs, facts) if knobs else space.default_space(facts)
    for knob in found.knobs:
        for value in knob.values:
            changes(subject, Setting.of({knob.name: value}))
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


def of_main(subject: Subject, knobs: Mapping[str, tuple[Json, ...]]) -> dict[str, tuple[Json, ...]]:
    """The main step's knobs have no prefix, whether the recipe names the step or not.

    Raises:
        UserError: there is no such step, or a knob is there in both ways.
    """
    made: dict[str, tuple[Json, ...]] = {}
    for knob, values in knobs.items():
        step, _, path = knob.rpartition(":")
        name = path if step and subject.model_of(step) == subject.main else knob
        if name in made:
            raise UserError(f"knob {knob}: {step or name} is the main model, and {name} is there already")
        made[name] = values
    return made


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
    backend = str(subject.configs[subject.main].get("backend", ""))
    return space.Facts(cores, len(machine.gpus), steps, client_batch, own_values(subject), before, backend)


def own_values(subject: Subject) -> dict[str, Value]:
    """The main model's own values, by knob."""
    config: Mapping[str, Any] = subject.configs[subject.main]
    groups, batching = config.get("instance_group", [{}]), config.get("dynamic_batching")
    threads = config.get("parameters", {}).get("intra_op_thread_count", {}).get("string_value", "")
    made: dict[str, Value] = {
        space.COUNT: int(groups[0].get("count", 1)) if groups else 1,
        space.MAX_BATCH_SIZE: int(config.get("max_batch_size", 0)),
        space.BATCHING: batching is not None and not turned_off(batching),
        space.DELAY: int((batching or {}).get("max_queue_delay_microseconds", 0)),
    }
    made |= {space.PREFERRED: (1,)} if batching is not None and turned_off(batching) else {}
    made |= {space.KIND: str(groups[0]["kind"])} if groups and groups[0].get("kind") else {}
    return made | ({space.THREADS: int(threads)} if threads.isdecimal() else {})


def determines(subject: Subject) -> dict[str, Json]:
    """All that determines a point beside setting, load and seconds.

    That is what is served, built with which knobs, server and hardware, measuring rules, what answers are held against.
    """
    said: dict[str, Json] = {"subject": subject.digest, "rules": statistics.RULES}
    if subject.facts is not None:
        said |= {"expected": subject.facts.expected.sha256, "tolerances": dict(subject.tolerances)}
    return said
