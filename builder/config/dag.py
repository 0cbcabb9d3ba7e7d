"""A pipeline of named steps: who gives each tensor to whom. Checked before anything is built, and again with facts.

Pure data: nothing here knows what a step does. The rules are those of Triton's ensemble scheduler
(``ValidateEnsembleConfig`` in ``src/ensemble_scheduler/ensemble_utils.cc`` of triton-inference-server/core), told in
the recipe's words.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Final

from builder.errors import RecipeError
from builder.recipe.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from builder.artifacts import Json

REQUEST: Final = "request"
"""Stands for the client where a step is meant: ``request.TEXT``."""

_OF_CLIENTS: Final = frozenset({"TEXT", "TEXT_PAIR", "IMAGE"})


@dataclass(frozen=True, slots=True)
class Port:
    """A tensor that a step takes or gives. ``dims`` leaves out the batch axis, as configs do; -1 is any size."""

    name: str
    dtype: str  # Triton's name: INT64, FP32, BYTES
    dims: tuple[int, ...]
    optional: bool = False

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join(map(str, self.dims))}]"

    def fits(self, taken: Port) -> bool:
        """Whether what is given here can be taken there."""
        same = self.dtype == taken.dtype and len(self.dims) == len(taken.dims)
        return same and all(a == b or -1 in {a, b} for a, b in zip(self.dims, taken.dims, strict=True))


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its tensors, and what the recipe says of where its inputs come from (``{"TEXT": "request.TEXT"}``).

    A ``closed`` step takes of clients, where its inputs do not say so, only what clients send: texts and images.
    """

    name: str
    takes: tuple[Port, ...]
    gives: tuple[Port, ...]
    max_batch_size: int
    inputs: Mapping[str, str] = field(default_factory=dict)
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """``source`` gives its tensor ``given`` to the input ``taken`` of ``step``."""

    source: str  # a step, or REQUEST
    given: Port
    step: str
    taken: Port


@dataclass(frozen=True, slots=True)
class Dag:
    """A checked pipeline. ``steps`` are in an order in which they can run."""

    name: str
    steps: tuple[Step, ...]
    edges: tuple[Edge, ...]
    inputs: tuple[Port, ...]  # what clients send
    outputs: Mapping[str, tuple[str, Port]]  # name that clients see → step, and its tensor
    max_batch_size: int

    def edges_into(self, step: str) -> tuple[Edge, ...]:
        """The edges of a step's inputs, in the order of its inputs."""
        return tuple(edge for edge in self.edges if edge.step == step)


def compile_dag(
    name: str, steps: Sequence[Step], outputs: Mapping[str, str] | Sequence[str], max_batch_size: int
) -> Dag:
    """Binds every input to who gives it, and checks the whole.

    An input is bound to what its step says; else to the only earlier step that gives a tensor of its name; else to the
    request, where it is something that clients send.

    Args:
        name: of the pipeline: what clients call.
        steps: in the order of the recipe.
        outputs: what clients get: names → ``step.TENSOR``; or a list of those, or of tensors that only one step gives.
        max_batch_size: of the pipeline.

    Raises:
        RecipeError: a name is unknown or ambiguous; an edge does not fit; there is a cycle; a step is of no use. All
            problems, one line each.
    """
    binder = _Binder({step.name: step for step in steps})
    edges = tuple(edge for step in steps for edge in binder.edges(step))
    results = dict(binder.outputs(outputs))
    problems = [
        *binder.problems,
        *_misfits(edges),
        *_batches(steps, max_batch_size),
        *_cycle(steps, edges),
        # Where somebody's tensor was not found, its giver only seems to be of no use.
        *([] if binder.problems else _useless(steps, edges, results)),
    ]
    if problems:
        raise RecipeError("\n".join(f"pipeline {name!r}: {problem}" for problem in problems))
    return Dag(name, _ordered(steps, edges), edges, _from_clients(edges), results, max_batch_size)


class _Binder:
    """Finds who gives a tensor; keeps the problems that it meets."""

    def __init__(self, steps: Mapping[str, Step]) -> None:
        self._steps = steps
        self.problems: list[str] = []

    def edges(self, step: Step) -> Iterator[Edge]:
        names = [port.name for port in step.takes]
        for unknown in step.inputs.keys() - set(names):
            self._wrong(f"step {step.name!r} has no input {unknown!r}; it takes {_list(names)}")
        for taken in step.takes:
            stated = step.inputs.get(taken.name)
            found = self._find(step, taken, stated) if stated else self._guess(step, taken)
            if found:
                yield Edge(found[0], found[1], step.name, taken)

    def outputs(self, asked: Mapping[str, str] | Sequence[str]) -> Iterator[tuple[str, tuple[str, Port]]]:
        named = asked if isinstance(asked, dict) else {entry.rpartition(".")[2]: entry for entry in asked}
        if len(named) < len(asked):
            self._wrong(f"outputs: two of {_list(list(asked))} have the same name: write a mapping of names")
        for name, reference in named.items():
            if found := self._output(name, reference):
                yield name, found

    def _output(self, name: str, reference: str) -> tuple[str, Port] | None:
        if "." in reference:
            return self._reference(f"output {name!r}", reference)
        givers = _givers(self._steps.values(), reference)
        if len(givers) == 1:
            return givers[0]
        known = ", ".join(f"{giver}.{port.name}" for giver, port in givers)
        given = [port.name for step in self._steps.values() for port in step.gives]
        missing = f"no step gives {reference!r}; there are {_list(given)}{did_you_mean(reference, given)}"
        self._wrong(f"output {name!r}: {f'write one of {known}' if givers else missing}")
        return None

    def _find(self, step: Step, taken: Port, stated: str) -> tuple[str, Port] | None:
        if stated.partition(".")[0] == REQUEST:
            return REQUEST, Port(stated.partition(".")[2], taken.dtype, taken.dims, taken.optional)
        return self._reference(f"step {step.name!r} input {taken.name!r}", stated)

    def _reference(self, what: str, stated: str) -> tuple[str, Port] | None:
        giver, _, tensor = stated.partition(".")
        if giver not in self._steps:
            self._wrong(
                f"{what}: there is no step {giver!r} (in {stated!r}); allowed: {_list([*self._steps, REQUEST])}"
            )
            return None
        port = next((port for port in self._steps[giver].gives if port.name == tensor), None)
        if port is None:
            given = _list([port.name for port in self._steps[giver].gives])
            self._wrong(f"{what}: step {giver!r} gives no {tensor!r}; it gives {given}")
            return None
        return giver, port

    def _guess(self, step: Step, taken: Port) -> tuple[str, Port] | None:
        names = list(self._steps)
        earlier = [self._steps[name] for name in names[: names.index(step.name)]]
        givers = _givers(earlier, taken.name)
        if len(givers) > 1:
            choices = " or ".join(f"{giver}.{taken.name}" for giver, _ in givers)
            self._wrong(f"step {step.name!r} input {taken.name!r}: write under inputs which it takes: {choices}")
            return None
        if givers:
            return givers[0]
        if taken.optional:
            return None
        if step.closed and taken.name not in _OF_CLIENTS:
            self._missing(step, taken)
            return None
        return REQUEST, taken

    def _missing(self, step: Step, taken: Port) -> None:
        later = [
            f"{giver}.{taken.name}" for giver, _ in _givers(self._steps.values(), taken.name) if giver != step.name
        ]
        known = f", but {' and '.join(later)} is there: move that step before it, or write" if later else "; write"
        reference = later[0] if later else f"request.{taken.name}"
        who = "" if later else " if clients send it, or put a step before it that gives it"
        self._wrong(
            f"step {step.name!r} input {taken.name!r}: no earlier step gives {taken.name}{known} "
            f"inputs: {{{taken.name}: {reference}}}{who}"
        )

    def _wrong(self, problem: str) -> None:
        self.problems.append(problem)


def _givers(steps: Iterable[Step], tensor: str) -> list[tuple[str, Port]]:
    return [(step.name, port) for step in steps for port in step.gives if port.name == tensor]


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _misfits(edges: Sequence[Edge]) -> Iterator[str]:
    sent: dict[str, Edge] = {}
    for edge in edges:
        if not edge.given.fits(edge.taken):
            yield (
                f"step {edge.step!r} input {edge.taken.name!r} takes {edge.taken}, "
                f"but {edge.source!r} output {edge.given.name!r} gives {edge.given}"
            )
        if edge.source == REQUEST:
            first = sent.setdefault(edge.given.name, edge)
            if not first.taken.fits(edge.taken):
                yield (
                    f"step {edge.step!r} input {edge.taken.name!r} takes {edge.taken}, but step {first.step!r} takes "
                    f"{first.taken} for the same tensor {edge.given.name!r} of the request"
                )


def _batches(steps: Sequence[Step], max_batch_size: int) -> Iterator[str]:
    for step in steps:
        if step.max_batch_size < max_batch_size:
            yield (
                f"step {step.name!r} takes a batch of up to {step.max_batch_size}, "
                f"but serving.max_batch_size is {max_batch_size}: lower it, or let the step take more "
                "(models.NAME.shapes.batch.max, or the step's own serving.max_batch_size)"
            )


def _cycle(steps: Sequence[Step], edges: Sequence[Edge]) -> Iterator[str]:
    try:
        _sort(steps, edges)
    except CycleError as error:
        yield f"steps wait for each other: {' → '.join(reversed(error.args[1]))}"


def _sort(steps: Sequence[Step], edges: Sequence[Edge]) -> tuple[str, ...]:
    needs = {
        step.name: [edge.source for edge in edges if edge.step == step.name and edge.source != REQUEST]
        for step in steps
    }
    return tuple(TopologicalSorter(needs).static_order())


def _ordered(steps: Sequence[Step], edges: Sequence[Edge]) -> tuple[Step, ...]:
    by_name = {step.name: step for step in steps}
    return tuple(by_name[name] for name in _sort(steps, edges))


def _useless(steps: Sequence[Step], edges: Sequence[Edge], outputs: Mapping[str, tuple[str, Port]]) -> Iterator[str]:
    wanted = {edge.source for edge in edges} | {step for step, _ in outputs.values()}
    if not outputs:
        yield "it has no outputs"
    for step in steps:
        if step.name not in wanted:
            yield f"step {step.name!r} is of no use: no step takes what it gives, and outputs does not name it"
    shown: dict[tuple[str, str], str] = {}
    for name, (giver, port) in outputs.items():
        if shown.setdefault((giver, port.name), name) != name:
            yield f"outputs {shown[giver, port.name]!r} and {name!r} are one tensor, {giver}.{port.name}: leave one out"
        if any(edge.source == REQUEST and edge.given.name == name for edge in edges):
            yield f"output {name!r} has the name of an input: give it another under outputs"


def _from_clients(edges: Sequence[Edge]) -> tuple[Port, ...]:
    """What clients send; of several takers the most exact dims, and it is optional if all can do without it."""
    sent: dict[str, Port] = {}
    for edge in edges:
        if edge.source == REQUEST:
            other = sent.get(edge.given.name, edge.given)
            dims = tuple(max(pair) for pair in zip(other.dims, edge.taken.dims, strict=True))
            optional = other.optional and edge.taken.optional
            sent[edge.given.name] = Port(edge.given.name, edge.given.dtype, dims, optional)
    return tuple(sent.values())


def ensemble_steps(dag: Dag, models: Mapping[str, str]) -> list[Json]:
    """The steps of ``ensemble_scheduling``. A tensor is called as clients call it, or ``<step>.<tensor>``.

    Args:
        dag: the pipeline.
        models: step → name of the model that does it.
    """
    shown = {(step, port.name): name for name, (step, port) in dag.outputs.items()}
    taken = {(edge.source, edge.given.name) for edge in dag.edges}

    def tensor(source: str, name: str) -> str:
        return name if source == REQUEST else shown.get((source, name), f"{source}.{name}")

    return [
        {
            "model_name": models[step.name],
            "model_version": -1,  # left out it would be 0, a version that does not exist
            "input_map": {edge.taken.name: tensor(edge.source, edge.given.name) for edge in dag.edges_into(step.name)},
            "output_map": {
                port.name: tensor(step.name, port.name)
                for port in step.gives
                if (step.name, port.name) in taken or (step.name, port.name) in shown
            },
        }
        for step in dag.steps
    ]
