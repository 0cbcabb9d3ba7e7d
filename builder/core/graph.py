"""Nodes that depend on one another, and who may run when.

A node's inputs are the outputs of the nodes that it needs. Independent nodes run side by side, bounded by their number
and by the memory that they say they need. Nodes with equal keys run once: the store's locks see to that. A node that
fails takes with it what depends on it, and what nobody wants any more; everything else goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from builder.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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


def run(nodes: Sequence[Node], perform: Perform, limits: Limits = Limits()) -> Outcome:
    """Runs all nodes, each once, after those that it needs.

    Args:
        nodes: in an order in which each comes after what it needs.
        perform: runs one stage.
        limits: what may run side by side. One node alone may need more memory than there is: then it runs by itself.

    Raises:
        BaseException: what is no :class:`Exception`, such as an interruption: nothing more is started.
    """
    unique = list({node.id: node for node in nodes}.values())
    schedule = _Schedule(unique, perform, limits)
    return schedule.one_by_one() if limits.jobs <= 1 else schedule.side_by_side()


class _Schedule:
    def __init__(self, nodes: Sequence[Node], perform: Perform, limits: Limits) -> None:
        self.outcome = Outcome()
        self._nodes = nodes
        self._perform = perform
        self._limits = limits
        self._wanted_by = _sinks(nodes)
        self._hopeless: set[str] = set()  # sinks that cannot be reached any more

    def one_by_one(self) -> Outcome:
        for node in self._nodes:
            if self._is_wanted(node):
                self._finish(node, self._call(node, *self._prepared(node)))
        return self.outcome

    def side_by_side(self) -> Outcome:
        running: dict[Future[object], tuple[Node, int, bool]] = {}
        waiting = list(self._nodes)
        pool = ThreadPoolExecutor(self._limits.jobs, thread_name_prefix="job")
        try:
            while True:
                waiting = [node for node in waiting if self._is_wanted(node)]
                waiting = self._start(waiting, running, pool)
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    node, _, _ = running.pop(future)
                    self._finish(node, future.result())
        except BaseException:
            from builder.tools import process

            pool.shutdown(wait=False, cancel_futures=True)
            process.end_all()
            raise
        finally:
            pool.shutdown()
        if waiting:
            raise InternalError(f"nodes that wait for one another: {', '.join(node.id for node in waiting)}")
        return self.outcome

    def _start(
        self, waiting: Iterable[Node], running: dict[Future[object], tuple[Node, int, bool]], pool: ThreadPoolExecutor
    ) -> list[Node]:
        """Starts what can run now; the rest."""
        rest = []
        for node in waiting:
            if any(needed not in self.outcome.values for needed in node.needs.values()):
                rest.append(node)
                continue
            prepared = self._prepared(node)
            memory, alone = _appetite(*prepared)
            if self._fits(memory, alone, running):
                running[pool.submit(self._call, node, *prepared)] = node, memory, alone
            else:
                rest.append(node)
        return rest

    def _fits(self, memory: int, alone: bool, running: Mapping[Future[object], tuple[Node, int, bool]]) -> bool:
        if not running:
            return True
        if alone or any(one[2] for one in running.values()) or len(running) >= self._limits.jobs:
            return False
        used = sum(one[1] for one in running.values())
        return self._limits.memory is None or used + memory <= self._limits.memory

    def _is_wanted(self, node: Node) -> bool:
        return not self._wanted_by[node.id] <= self._hopeless

    def _prepared(self, node: Node) -> tuple[Any, Any]:
        """The stage and its inputs; an error in their place."""
        if node.prepare is None:
            return None, None
        try:
            return node.prepare(node.inputs(self.outcome.values))
        except Exception as error:
            return error, None

    def _call(self, node: Node, stage: Any, inputs: Any) -> object:  # noqa: ANN401 - any stage
        if isinstance(stage, Exception):
            return stage
        try:
            if node.act is not None:
                return node.act(node.inputs(self.outcome.values))
            return self._perform(stage, inputs, node.id)
        except Exception as error:
            return error

    def _finish(self, node: Node, result: object) -> None:
        if isinstance(result, Exception):
            self.outcome.errors[node.id] = result
            self._hopeless |= self._wanted_by[node.id]
        else:
            self.outcome.values[node.id] = result


def _appetite(stage: Any, inputs: Any) -> tuple[int, bool]:  # noqa: ANN401 - any stage
    """Bytes of memory that a stage needs, and whether nothing may run beside it."""
    memory = stage.memory(inputs) if hasattr(stage, "memory") else DEFAULT_MEMORY
    return memory, bool(getattr(stage, "alone", False))


def _sinks(nodes: Sequence[Node]) -> dict[str, set[str]]:
    """For each node, the last nodes that it leads to: what it is made for."""
    leads: dict[str, set[str]] = {}
    for node in reversed(nodes):
        sinks = leads.setdefault(node.id, set()) or {node.id}
        leads[node.id] = sinks
        for needed in node.needs.values():
            leads.setdefault(needed, set()).update(sinks)
    return leads
