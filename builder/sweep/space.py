"""What a sweep can try: knobs, their values, and which combinations are the same by construction."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from builder.errors import UserError
from builder.sweep.setting import Setting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.sweep.setting import Value

COUNT: Final = "instance_group.count"
KIND: Final = "instance_group.kind"
MAX_BATCH_SIZE: Final = "max_batch_size"
BATCHING: Final = "dynamic_batching"
DELAY: Final = "dynamic_batching.max_queue_delay_microseconds"
PREFERRED: Final = "dynamic_batching.preferred_batch_size"
THREADS: Final = "parameters.intra_op_thread_count"
GRAPHS: Final = "optimization.cuda.graphs"
PADDING: Final = "@padding"
BUCKETS: Final = "@buckets"

_WHOLE: Final = {COUNT: 1, MAX_BATCH_SIZE: 0, DELAY: 0, THREADS: 0}  # knob → its least value
_DELAYS: Final = (0, 500, 2000)  # of the default space, microseconds


@dataclass(frozen=True, slots=True)
class Knob:
    """What is varied, by the name that a :class:`~builder.sweep.setting.Setting` gives it, and its values."""

    name: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What of the machine and the subject decides what can be told apart.

    Args:
        cores: usable processors of the machine that serves.
        gpus: its GPUs.
        max_batch_sizes: step (``""``: the main model) → the greatest batch that it takes; a step that is not named
            has no known limit.
        client_batch: items in one request.
        own: the subject's own values, by knob: they hold where a setting leaves the knob out. Batching that is
            turned off by a preferred size of 1 has that size here.
        before: models that a request passes before the main one, as the server calls them.
        backend: of the main model; empty: not known.
    """

    cores: int
    gpus: int = 0
    max_batch_sizes: Mapping[str, int] = field(default_factory=dict)
    client_batch: int = 1
    own: Mapping[str, Value] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    backend: str = ""

    def gathers(self, values: Mapping[str, Value], step: str = "") -> bool:
        """Whether a step gathers requests under these values.

        A delay or a preferred size makes a section ``dynamic_batching`` where there is none; it turns nothing on where
        the subject turned batching off.
        """
        said = values.get(step + BATCHING)
        if said is not None:
            return said is not False
        made = any(values.get(step + knob) is not None for knob in (DELAY, PREFERRED))
        return bool(self.own.get(step + BATCHING, True)) or (made and self.own.get(step + PREFERRED) != (1,))


@dataclass(frozen=True, slots=True)
class Space:
    """All combinations of the knobs' values.

    Args:
        knobs: what is varied.
        facts: of machine and subject.
        most_threads: copies times threads of each; more is left out. None: nothing is.

    Raises:
        UserError: a knob has no values, or one that it cannot have.
    """

    knobs: tuple[Knob, ...]
    facts: Facts
    most_threads: int | None = None

    def __post_init__(self) -> None:
        for knob in self.knobs:
            _check(knob, self.facts)

    @property
    def combinations(self) -> int:
        """How many there are before those that are the same count once."""
        return math.prod(len(knob.values) for knob in self.knobs)

    def settings(self) -> tuple[Setting, ...]:
        """Each canonical setting once, in the order of the knobs' values."""
        names = [knob.name for knob in self.knobs]
        every = itertools.product(*(knob.values for knob in self.knobs))
        combined = (dict(zip(names, row, strict=True)) for row in every)
        return tuple(dict.fromkeys(self.canonical(Setting.of(one)) for one in combined if self._fits(one)))

    def _fits(self, values: Mapping[str, Value]) -> bool:
        copies, threads = values.get(COUNT), values.get(THREADS)
        if self.most_threads is None or not isinstance(copies, int) or not isinstance(threads, int):
            return True
        return copies * threads <= self.most_threads

    def canonical(self, setting: Setting) -> Setting:
        """The one setting that stands for all that are the same by construction."""
        values = setting.as_dict()
        for step in {_step_of(name) for name in values}:
            values = self._canonical_step(values, f"{step}:" if step else "")
        return Setting.of(values)

    def _canonical_step(self, values: dict[str, Value], step: str) -> dict[str, Value]:
        values = {**values, **self._written_out(values, step)}
        limit = values.get(step + MAX_BATCH_SIZE, self.facts.own.get(step + MAX_BATCH_SIZE))
        dropped: set[str] = set()
        client = self.facts.client_batch
        if not self.facts.gathers(values, step) or limit in (0, client):
            # Every request is a batch of its own: nothing waits for others. Written in one way.
            dropped = {DELAY, PREFERRED}
            if self._can_be(step + BATCHING, value=False) and (not isinstance(limit, int) or limit >= client):
                values[step + BATCHING] = False
                dropped |= {MAX_BATCH_SIZE}
        elif isinstance(limit, int) and step + PREFERRED in values:
            values[step + PREFERRED] = _preferred(values[step + PREFERRED], limit)
        if not self.facts.gpus:
            dropped |= {GRAPHS}
        if not step and values.get(PADDING) == "longest":
            values.pop(BUCKETS, None)
        return {name: value for name, value in values.items() if name not in {step + one for one in dropped}}

    def _written_out(self, values: Mapping[str, Value], step: str) -> dict[str, Value]:
        """The same in other words: threads left out or 0 are all cores; KIND_AUTO without a GPU is the CPU."""
        made: dict[str, Value] = {}
        if step + THREADS in values and not values[step + THREADS]:
            made[step + THREADS] = self.facts.cores
        if values.get(step + KIND) == "KIND_AUTO" and not self.facts.gpus:
            made[step + KIND] = "KIND_CPU"
        return made

    def _can_be(self, name: str, *, value: Value) -> bool:
        return any(knob.name == name and value in knob.values for knob in self.knobs)


def parse(settings: Mapping[str, Sequence[Value]], facts: Facts) -> Space:
    """The space that somebody wrote: knob → values.

    Raises:
        UserError: as :class:`Space`.
    """
    return Space(tuple(Knob(name, tuple(map(_frozen, values))) for name, values in settings.items()), facts)


def default_space(facts: Facts) -> Space:
    """What is worth trying where nobody says: copies, threads, batches and delays, by what the machine has.

    No copies and threads that want more than twice the cores: that only ever lost.
    """
    limit = facts.max_batch_sizes.get("", 1)
    on_gpu = facts.gpus > 0 and facts.own.get(KIND) != "KIND_CPU"
    knobs = [Knob(COUNT, _doubling(4 if on_gpu else facts.cores))]
    knobs += [Knob(THREADS, _doubling(facts.cores))] if not on_gpu and facts.backend in {"", "onnxruntime"} else []
    if limit > 1:
        sizes = tuple(size for size in _doubling(limit) if size in {2, 4, 8, limit} or size > 8)
        knobs += [Knob(BATCHING, (False, True)), Knob(MAX_BATCH_SIZE, sizes), Knob(DELAY, _DELAYS)]
    return Space(tuple(knobs), facts, most_threads=2 * facts.cores)


def _doubling(limit: int) -> tuple[int, ...]:
    """1, 2, 4, … and the limit itself."""
    return tuple(sorted({*(1 << power for power in range(limit.bit_length()) if 1 << power <= limit), limit}))


def _frozen(value: Value | list[int]) -> Value:
    return tuple(value) if isinstance(value, list) else value


def _step_of(name: str) -> str:
    return "" if name.startswith("@") else name.rpartition(":")[0]


def _preferred(value: Value, limit: int) -> Value:
    """Sizes that can be reached. Triton itself prefers the greatest one where nothing is said."""
    sizes = tuple(sorted({size for size in value if size <= limit})) if isinstance(value, tuple) else ()
    return None if sizes in ((), (limit,)) else sizes


def _check(knob: Knob, facts: Facts) -> None:
    place, path = f"knob {knob.name}", knob.name.rpartition(":")[2]
    if not knob.values:
        raise UserError(f"{place} has no values", mend="write at least one, or leave the knob out")
    if len(set(map(repr, knob.values))) < len(knob.values):
        raise UserError(f"{place} has a value twice: {list(knob.values)}")
    limit = facts.max_batch_sizes.get(_step_of(knob.name)) if path == MAX_BATCH_SIZE else None
    for value in knob.values:
        least = _WHOLE.get(path)
        if least is not None and value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise UserError(f"{place}: {value!r} is no whole number")
        if least is not None and isinstance(value, int) and value < least:
            raise UserError(f"{place}: {value} is less than {least}")
        if limit is not None and isinstance(value, int) and value > limit:
            raise UserError(f"{place}: {value} is more than the model takes", mend=f"at most {limit}")
