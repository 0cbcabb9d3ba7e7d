"""Anybody's ensembles as pipelines: from their ``config.pbtxt`` files, as far as these say it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from builder.config.dag import REQUEST, Dag, Edge, Port, Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.artifacts import Json

UNKNOWN: Final = "?"
"""The data type of a tensor that no config declares: the server completes configs when it loads models."""


def drawn(ensemble: Mapping[str, Json], models: Mapping[str, Mapping[str, Json]]) -> Dag:
    """The pipeline of an ensemble; what it says wrongly is left out.

    Args:
        ensemble: its config.
        models: the configs of all models, by name.
    """
    stated = ensemble.get("ensemble_scheduling", {}).get("step", [])
    names = _names(stated)
    steps = tuple(_step(name, step, models.get(step.get("model_name", ""), {})) for name, step in names.items())
    inputs = ports(ensemble, "input")
    made = {port.name: (REQUEST, port) for port in inputs}
    for step, (name, entry) in zip(steps, names.items(), strict=True):
        gives = {port.name: port for port in step.gives}
        made |= {outer: (name, gives[inner]) for inner, outer in entry.get("output_map", {}).items()}
    edges = tuple(
        Edge(*made[outer], step.name, port)
        for step, entry in zip(steps, names.values(), strict=True)
        for port in step.takes
        if (outer := entry.get("input_map", {}).get(port.name)) in made
    )
    outputs = {
        port.name: (giver, replace(port, name=given.name))
        for port in ports(ensemble, "output")
        for giver, given in [made.get(port.name, (UNKNOWN, port))]
    }
    return Dag(ensemble.get("name", ""), steps, edges, inputs, outputs, ensemble.get("max_batch_size", 0))


def ports(config: Mapping[str, Json], direction: str) -> tuple[Port, ...]:
    """The inputs or outputs of a config."""
    return tuple(_port(tensor) for tensor in config.get(direction, ()))


def _port(tensor: Mapping[str, Json]) -> Port:
    dtype = tensor.get("data_type", UNKNOWN).removeprefix("TYPE_")
    dims = tuple(tensor.get("dims", ()))
    name, optional = tensor.get("name", ""), bool(tensor.get("optional"))
    return Port(name, "BYTES" if dtype == "STRING" else dtype, dims, optional)


def _names(stated: Sequence[Mapping[str, Json]]) -> dict[str, Mapping[str, Json]]:
    """Steps are called by their models; one that is there again gets a number."""
    found: dict[str, Mapping[str, Json]] = {}
    for step in stated:
        model, number = step.get("model_name", UNKNOWN), 1
        while (name := model if number == 1 else f"{model} {number}") in found:
            number += 1
        found[name] = step
    return found


def _step(name: str, entry: Mapping[str, Json], config: Mapping[str, Json]) -> Step:
    takes = _declared(entry.get("input_map", {}), ports(config, "input"))
    gives = _declared(entry.get("output_map", {}), ports(config, "output"))
    return Step(name, tuple(takes), tuple(gives), config.get("max_batch_size", 0))


def _declared(mapped: Mapping[str, str], known: Sequence[Port]) -> Iterator[Port]:
    by_name = {port.name: port for port in known}
    return (by_name.get(name, Port(name, UNKNOWN, ())) for name in mapped)
