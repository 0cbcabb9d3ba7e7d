"""Several steps that would read the request at the same time: a step before them reads it for all.

Seen with tritonserver 2.51: when one of them refuses a request, the client is answered at once, and the memory of the
request is used again while the others still read it; requests of other clients then get errors, or the server ends.
What a step gave is kept as long as somebody reads it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from builder.config.compose import ModelFacts, compose
from builder.config.dag import REQUEST, Dag, Edge, Step
from builder.config.ports import tensors_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import Json
    from builder.recipe.steps import AnyStep

NAME: Final = "receive"
_READERS: Final = frozenset({"tokenizer", "ensemble", "select"})
_TEXTS: Final = frozenset({"TEXT", "TEXT_PAIR"})


def with_receiver(dag: Dag) -> tuple[Dag, Step | None]:
    """The pipeline with a first step that all others take the request from, and that step.

    Inputs that a request may leave out stay the request's: a step cannot leave out what it gives.

    Returns:
        the pipeline as it is, and None, where no two steps may read the request at the same time.
    """
    ports = tuple(port for port in dag.inputs if not port.optional)
    if not ports or not _at_once(dag):
        return dag, None
    names = {step.name for step in dag.steps}
    name = next(one for one in (NAME, *(f"{NAME}-{number}" for number in range(2, 99))) if one not in names)
    step = Step(name, ports, ports, dag.max_batch_size)
    given = {port.name: port for port in ports}
    edges = [Edge(REQUEST, port, name, port) for port in ports]
    edges += [
        replace(edge, source=name, given=given[edge.given.name])
        if edge.source == REQUEST and edge.given.name in given
        else edge
        for edge in dag.edges
    ]
    return replace(dag, steps=(step, *dag.steps), edges=tuple(edges)), step


def _at_once(dag: Dag) -> bool:
    """Whether two steps take the request, and neither of them waits for the other."""
    before: dict[str, set[str]] = {}
    for step in dag.steps:
        sources = {edge.source for edge in dag.edges_into(step.name)} - {REQUEST}
        before[step.name] = sources.union(*(before[source] for source in sources))
    takers = {edge.step for edge in dag.edges if edge.source == REQUEST}
    return any(one not in before[other] and other not in before[one] for one in takers for other in takers - {one})


def config(name: str, step: Step) -> dict[str, Json]:
    """The config of the receiving step."""
    tensors = tensors_of(step.takes)
    facts = ModelFacts(name, tensors, tensors, step.max_batch_size, backend="python")
    said = {"instance_group": [{"count": 1, "kind": "KIND_CPU"}]}
    return compose(facts, said, {"dynamic_batching": {}})


def settings(step: Step, dag: Dag, sections: Mapping[str, AnyStep]) -> dict[str, Json]:
    """Its ``settings.json``: texts are what some step reads as text."""
    read = {
        edge.given.name
        for edge in dag.edges
        if edge.source == step.name and sections[edge.step].kind in _READERS and edge.taken.name in _TEXTS
    }
    return {"schema": 1, "tensors": {port.name: list(port.dims) for port in step.takes}, "texts": sorted(read)}
