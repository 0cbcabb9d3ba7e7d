"""The ModelConfig of any one model: facts that the build knows, and what a recipe's ``serving`` section says of it.

A fact is never asked of a recipe, and what a recipe says never contradicts a fact. The result is JSON data with
Triton's own names; :func:`builder.config.rules.problems` says whether Triton would take it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.artifacts import Json, Tensor
    from builder.config.host import Keys, Problem

_AS_WRITTEN: Final = (
    "version_policy",
    "sequence_batching",
    "batch_input",
    "batch_output",
    "optimization",
    "model_transaction_policy",
    "model_repository_agents",
    "model_metrics",
    "metric_tags",
    "runtime",
    "cc_model_filenames",
)
"""Fields of ``serving`` that are Triton's, word for word."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the build knows of a model: a recipe cannot set it.

    Tensors are those of the graph, in the order of the config, with the batch axis first where there is one.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    max_batch_size: int  # 0: no batch axis
    backend: str = ""
    platform: str = ""  # where Triton wants it: "ensemble", which has no backend, "tensorrt_plan"
    model_filename: str = ""  # empty: the backend's own default
    scheduling: Mapping[str, Json] | None = None  # of an ensemble: Triton's ensemble_scheduling


def compose(
    facts: ModelFacts, serving: Mapping[str, Json], defaults: Mapping[str, Json] | None = None
) -> dict[str, Json]:
    """The config of a model.

    Args:
        facts: what follows from the model.
        serving: the recipe's section as JSON data; a key that is not there is left out.
        defaults: fields of the ModelConfig for what the section leaves out; parameters are merged, and a scheduler
            gives way to the other one.
    """
    raw = serving.get("config") or {}
    data = {**_head(facts), **_defaults(defaults or {}, serving, raw), **_section(serving)}
    if "parameters" in (defaults or {}) and "parameters" in data:
        data["parameters"] = {**(defaults or {})["parameters"], **data["parameters"]}
    data = merge(data, raw)
    shown = {entry["name"] for entry in serving.get("output") or ()}
    hidden = {"input": set(server_inputs(data).values()), "output": _states(data) - shown}
    for direction, tensors in (("input", facts.inputs), ("output", facts.outputs)):
        sent = [tensor for tensor in tensors if tensor.name not in hidden[direction]]
        data[direction] = _tensors(sent, serving.get(direction), facts)
    return data


def variant(config: Mapping[str, Json], fields: Mapping[str, Json]) -> dict[str, Json]:
    """One of ``serving.configs``: its fields over the model's config; a scheduler gives way to the other one."""
    return merge({key: value for key, value in config.items() if key not in _displaced(fields)}, fields)


def merge(base: Mapping[str, Json], over: Mapping[str, Json]) -> dict[str, Json]:
    """``over`` over ``base``: mappings are merged key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def strings(values: Mapping[str, str]) -> dict[str, Json]:
    """Parameters as Triton has them."""
    return {key: {"string_value": value} for key, value in values.items()}


def no_gathering() -> dict[str, Json]:
    """No request shares an execution with another.

    There is no field that says so. But with a preferred size of 1 and no delay, the batcher closes each batch when it
    holds one request (``GetDynamicBatch`` in ``src/dynamic_batch_scheduler.cc`` of triton-inference-server/core).
    """
    return {"preferred_batch_size": [1]}


def tensor_problems(facts: ModelFacts, serving: Mapping[str, Json]) -> Iterator[Problem]:
    """What a section says of tensors that the model does not have, or not so; paths are those of the section."""
    for direction, tensors in (("input", facts.inputs), ("output", facts.outputs)):
        known = {tensor.name: tensor for tensor in tensors}
        for index, entry in enumerate(serving.get(direction) or ()):
            place, tensor = (direction, index), known.get(entry["name"])
            if tensor is None:
                yield (*place, "name"), f"{entry['name']!r} is no {direction} of the model; it has: {', '.join(known)}"
                continue
            wanted = _dims(tensor, facts)
            if "reshape" in entry and not _alike(entry["reshape"].get("shape", []), wanted):
                yield (*place, "reshape"), f"must be the model's shape, {wanted}"
            if entry.get("allow_ragged_batch") and facts.backend == "onnxruntime" and tensor.shape != (-1,):
                words = f"needs an input of the shape [-1], the values of all requests; got {list(tensor.shape)}"
                yield (*place, "allow_ragged_batch"), words


def server_inputs(config: Mapping[str, Json]) -> dict[Keys, str]:
    """Inputs of the model that no client sends: the server makes them, and the config's ``input`` does not have them.

    Returns:
        Path in the config → name.
    """
    sequence = config.get("sequence_batching", {})
    batch = enumerate(config.get("batch_input", ()))
    controls, states = enumerate(sequence.get("control_input", ())), enumerate(sequence.get("state", ()))
    named: dict[Keys, str] = {
        ("batch_input", index, "target_name", number): name
        for index, entry in batch
        for number, name in enumerate(entry.get("target_name", ()))
    }
    named |= {("sequence_batching", "control_input", index, "name"): entry.get("name", "") for index, entry in controls}
    return named | {
        ("sequence_batching", "state", index, "input_name"): entry.get("input_name", "") for index, entry in states
    }


def _head(facts: ModelFacts) -> dict[str, Json]:
    data = {
        "name": facts.name,
        "platform": facts.platform,
        "backend": facts.backend,
        "default_model_filename": facts.model_filename,
    }
    scheduling = {} if facts.scheduling is None else {"ensemble_scheduling": dict(facts.scheduling)}
    given = {key: value for key, value in data.items() if value}
    return {**given, **scheduling, "max_batch_size": facts.max_batch_size}


def _defaults(defaults: Mapping[str, Json], *over: Mapping[str, Json]) -> dict[str, Json]:
    gone = {name for one in over for name in _displaced(one)}
    return {key: value for key, value in defaults.items() if key not in gone}


def _displaced(fields: Mapping[str, Json]) -> set[str]:
    """Schedulers that the fields exclude."""
    schedulers = ("dynamic_batching", "sequence_batching")
    return {other for one, other in (schedulers, schedulers[::-1]) if fields.get(one) is not None}


def _section(serving: Mapping[str, Json]) -> dict[str, Json]:
    """The fields of ``serving`` as Triton has them, all but the tensors."""
    data = {key: serving[key] for key in _AS_WRITTEN if serving.get(key) is not None}
    if (batching := serving.get("dynamic_batching")) is not None and "sequence_batching" not in data:
        given = {key: value for key, value in (batching or {}).items() if value or value == {}}
        data["dynamic_batching"] = no_gathering() if batching is False else given
    if groups := serving.get("instance_group"):
        data["instance_group"] = [{key: value for key, value in group.items() if value is not None} for group in groups]
    if parameters := serving.get("parameters"):
        data["parameters"] = strings(parameters)
    if (serving.get("response_cache") or {}).get("enable"):
        data["response_cache"] = {"enable": True}
    if isinstance(serving.get("model_warmup"), list | tuple):
        data["model_warmup"] = list(serving["model_warmup"])
    return data


def _states(config: Mapping[str, Json]) -> set[str]:
    """Outputs of the graph that the server keeps: states. Clients see one only if ``serving.output`` names it."""
    return {entry.get("output_name", "") for entry in config.get("sequence_batching", {}).get("state", ())}


def _tensors(tensors: Sequence[Tensor], entries: Sequence[Json] | None, facts: ModelFacts) -> list[Json]:
    said = {entry["name"]: entry for entry in entries or ()}
    return [{**_tensor(tensor, said.get(tensor.name, {}), facts), **said.get(tensor.name, {})} for tensor in tensors]


def _tensor(tensor: Tensor, said: Mapping[str, Json], facts: ModelFacts) -> dict[str, Json]:
    kind = "TYPE_STRING" if tensor.dtype == "BYTES" else f"TYPE_{tensor.dtype}"
    # What is ragged comes as one row of all requests' values: its tensor in the graph has no batch axis.
    dims = list(tensor.shape) if said.get("allow_ragged_batch") else _dims(tensor, facts)
    return {"name": tensor.name, "data_type": kind, "dims": dims}


def _dims(tensor: Tensor, facts: ModelFacts) -> list[int]:
    """Without the batch axis, which ``max_batch_size`` stands for."""
    return list(tensor.shape[1:] if facts.max_batch_size else tensor.shape)


def _alike(given: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(given) == len(wanted) and all(a == b or -1 in {a, b} for a, b in zip(given, wanted, strict=True))
