"""Nodes that depend on one another, and who may run when.

A node's inputs are the outputs of the nodes that it needs. Independent nodes run side by side, bounded by their number
and by the memory that they say they need; the first of those that can run goes first. What several recipes share runs
once: equal stages with equal inputs wait for one another here, other ways to the same key at the store's locks. A node
that fails takes with it what depends on it, and what nobody wants any more; everything else goes on.

A stage that says that it needs more memory than there is at all is not refused: what it says is an estimate from above,
and the kernel can give up mapped weights. It runs by itself, with a warning (:mod:`builder.core.workers`), and if it is
killed, the error says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from builder.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from builder.core.stage import Stage

Values: TypeAlias = Mapping[str, Any]
"""Outputs of the nodes that one needs, by the names that it gives them."""

DEFAULT_MEMORY: Final = 256 << 20
"""Bytes that a stage is taken to need that does not say."""


@dataclass(frozen=True, slots=True)
class Node:
    """One stage with its inputs; or, without a stage, something that is done with them each time.

    Args:
        id: ``recipe/source/model/target/format/stage``.
        needs: name → id of the node that makes it.
        prepare: from those values to the stage and its inputs.
        act: instead of ``prepare``: what is done with those values; its result is the node's output.
    """

    id: str
    needs: Mapping[str, str]
    prepare: Callable[[Values], tuple[Stage[Any, Any], Any]] | None = None
    act: Callable[[Values], object] | None = None

    @property
    def stage(self) -> str:
        """The last part of the id."""
        return self.id.rpartition("/")[2]

    def inputs(self, values: Mapping[str, Any]) -> Values:
        """What it needs, of all values by node id."""
        return {name: values[node] for name, node in self.needs.items()}


@dataclass(slots=True)
class Outcome:
    """How a graph ended: output by node id, or the error of those that failed. What is in neither was not wanted."""

    values: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """What may run side by side: so many nodes, that need so many bytes together."""

    jobs: int = 1
    memory: int | None = None


Perform: TypeAlias = Callable[["Stage[Any, Any]", Any, str], object]
"""Runs a stage on its inputs, for a node id."""


Find: TypeAlias = Callable[["Stage[Any, Any]", Any, str], "object | None"]
"""What a stage would give for its inputs, if that is there already; None: it has to run."""


def _no_preference(_: Stage[Any, Any]) -> bool:
    return False


def _not_there(*_: object) -> None:
    return None


def run(
    nodes: Sequence[Node],
    perform: Perform,
    limits: Limits = Limits(),
    prefer: Callable[[Stage[Any, Any]], bool] = _no_preference,
    find: Find = _not_there,
) -> Outcome:
    """Runs all nodes, each once, after those that it needs.

    Args:
        nodes: in an order in which each comes after what it needs.
        perform: runs one stage.
        limits: what may run side by side. One node alone may need more memory than there is: then it runs by itself.
        prefer: which of the stages that can run now are to go first, beside others; the rest goes in order.
        find: asked of each stage before it takes a place beside others: what is there needs none.

    Raises:
        BaseException: what is no :class:`Exception`, such as an interruption: nothing more is started.
    """
    unique = list({node.id: node for node in nodes}.values())
    schedule = _Schedule(unique, perform, limits, prefer, find)
    return schedule.one_by_one() if limits.jobs <= 1 else schedule.side_by_side()


class _Schedule:
    def __init__(
        self,
        nodes: Sequence[Node],
        perform: Perform,
        limits: Limits,
        prefer: Callable[[Stage[Any, Any]], bool],
        find: Find,
    ) -> None:
        self._nodes = nodes
        self._perform = perform
        self._limits = limits
        self._prefer = prefer
        self._find = find
        self._made = Outcome()
        self._wanted_by = _sinks(nodes)
        self._hopeless: set[str] = set()  # sinks that cannot be reached any more

    def one_by_one(self) -> Outcome:
        for node in self._nodes:
            if self._is_wanted(node):
                self._finish(node, self._call(node, *self._prepared(node)))
        return self._made

    def side_by_side(self) -> Outcome:
        queue = _Queue(self._nodes)
        running: dict[Future[object], _Job] = {}
        ready: list[_Job] = []
        pool = ThreadPoolExecutor(self._limits.jobs, thread_name_prefix="job")
        try:
            while True:
                ready += self._not_found(queue)
                ready.sort(key=lambda job: (not self._prefer(job.stage), queue.place(job.node)))
                ready = self._start(ready, running, pool)
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    node = running.pop(future).node
                    self._finish(node, future.result())
                    if node.id in self._made.values:
                        queue.made(node)
        except BaseException:
            _interrupt(pool, running)
            raise
        finally:
            pool.shutdown()
        return self._in_order()

    def _not_found(self, queue: _Queue) -> Iterator[_Job]:
        """What can run now and has to; what is there already is taken at once, and so is what that makes ready."""
        while taken := queue.take():
            for node in taken:
                if not self._is_wanted(node):
                    continue
                job = _Job(node, *self._prepared(node))
                known = node.act is None and not isinstance(job.stage, Exception)
                if known and (value := self._find(job.stage, job.inputs, node.id)) is not None:
                    self._finish(node, value)
                    queue.made(node)
                else:
                    yield job

    def _start(
        self, ready: Sequence[_Job], running: dict[Future[object], _Job], pool: ThreadPoolExecutor
    ) -> list[_Job]:
        """Starts what can run now; the rest."""
        rest: list[_Job] = []
        for index, job in enumerate(ready):
            if len(running) >= self._limits.jobs:
                return [*rest, *ready[index:]]
            if not self._is_wanted(job.node):
                continue
            if self._fits(job, running.values()):
                running[pool.submit(self._call, job.node, job.stage, job.inputs)] = job
            else:
                rest.append(job)
        return rest

    def _fits(self, job: _Job, running: Collection[_Job]) -> bool:
        if not running:
            return True
        if job.alone or any(one.alone or one.is_same(job) for one in running):
            return False
        used = sum(one.memory for one in running)
        return self._limits.memory is None or used + job.memory <= self._limits.memory

    def _is_wanted(self, node: Node) -> bool:
        return not self._wanted_by[node.id] <= self._hopeless

    def _prepared(self, node: Node) -> tuple[Any, Any]:
        """The stage and its inputs; an error in their place."""
        if node.prepare is None:
            return None, None
        try:
            return node.prepare(node.inputs(self._made.values))
        except Exception as error:
            return error, None

    def _call(self, node: Node, stage: Any, inputs: Any) -> object:  # noqa: ANN401 - any stage
        if isinstance(stage, Exception):
            return stage
        try:
            if node.act is not None:
                return node.act(node.inputs(self._made.values))
            return self._perform(stage, inputs, node.id)
        except Exception as error:
            return error

    def _finish(self, node: Node, result: object) -> None:
        if isinstance(result, Exception):
            self._made.errors[node.id] = result
            self._hopeless |= self._wanted_by[node.id]
        else:
            self._made.values[node.id] = result

    def _in_order(self) -> Outcome:
        """The outcome in the order of the nodes: the same, whichever was done first."""
        made = self._made
        ended = made.values.keys() | made.errors.keys()
        lost = [node.id for node in self._nodes if node.id not in ended and self._is_wanted(node)]
        if lost:
            raise InternalError(f"nodes that wait for one another: {', '.join(lost)}")
        ids = [node.id for node in self._nodes]
        return Outcome(
            {node: made.values[node] for node in ids if node in made.values},
            {node: made.errors[node] for node in ids if node in made.errors},
        )


class _Queue:
    """Tells which nodes have all that they need."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._places = {node.id: place for place, node in enumerate(nodes)}
        self._missing = {node.id: set(node.needs.values()) for node in nodes}
        self._needed_by: dict[str, list[Node]] = {}
        for node in nodes:
            for needed in self._missing[node.id]:
                self._needed_by.setdefault(needed, []).append(node)
        self._ready = [node for node in nodes if not node.needs]

    def place(self, node: Node) -> int:
        """Where it stands among all nodes."""
        return self._places[node.id]

    def take(self) -> list[Node]:
        """What has become ready since the last time."""
        ready, self._ready = self._ready, []
        return ready

    def made(self, node: Node) -> None:
        """The node's output is there."""
        for other in self._needed_by.get(node.id, []):
            self._missing[other.id].discard(node.id)
            if not self._missing[other.id]:
                self._ready.append(other)


@dataclass(frozen=True)
class _Job:
    """A node that can run: everything that it needs is there."""

    node: Node
    stage: Any  # an error where its inputs could not be prepared
    inputs: Any

    @cached_property
    def memory(self) -> int:
        """Bytes that it says it needs."""
        return memory_of(self.stage, self.inputs)

    @property
    def alone(self) -> bool:
        """Whether nothing may run beside it."""
        return bool(getattr(self.stage, "alone", False))

    def is_same(self, other: _Job) -> bool:
        """Whether both make the same: then the second waits, and finds what the first has made."""
        return self.stage is not None and (self.stage, self.inputs) == (other.stage, other.inputs)


def _interrupt(pool: ThreadPoolExecutor, running: Collection[Future[object]]) -> None:
    """Ends the child processes that the jobs wait for, until no job waits: one may just be about to start another."""
    from builder.tools import process

    pool.shutdown(wait=False, cancel_futures=True)
    while pending := [future for future in running if not future.done()]:
        process.end_all()
        wait(pending, timeout=0.2)


def memory_of(stage: Any, inputs: Any) -> int:  # noqa: ANN401 - any stage
    """Bytes of memory that a stage says it needs."""
    return int(stage.memory(inputs)) if hasattr(stage, "memory") else DEFAULT_MEMORY


def _sinks(nodes: Sequence[Node]) -> dict[str, set[str]]:
    """For each node, the last nodes that it leads to: what it is made for."""
    leads: dict[str, set[str]] = {}
    for node in reversed(nodes):
        sinks = leads.setdefault(node.id, set()) or {node.id}
        leads[node.id] = sinks
        for needed in node.needs.values():
            leads.setdefault(needed, set()).update(sinks)
    return leads
