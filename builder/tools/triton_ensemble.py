"""What Triton's core refuses of an ensemble: of its config alone, and against the configs of its models.

Lines are those of triton-inference-server/core, r24.10. Who asks: ``tritonsmith lint``, of anybody's repository, and
the stages that write ensembles, of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from builder.tools.triton_flow import Flow, Shape, decoupled_labels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from builder.tools.triton_flow import Node

Message: TypeAlias = Any
"""A ModelConfig message, or a part of one."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the server refuses an ensemble: what is wrong, how to mend it, and the field, ``input[0].dims``."""

    message: str
    mend: str
    field: str


@dataclass(frozen=True, slots=True)
class Called:
    """A step whose model is known.

    Args:
        place: ``ensemble_scheduling.step[0]``.
        step: the step.
        config: the config of its model, as the server completes it.
    """

    place: str
    step: Message
    config: Message


def steps(config: Message) -> Iterator[tuple[str, Message]]:
    """(place, step) of an ensemble."""
    for index, step in enumerate(config.ensemble_scheduling.step):
        yield f"ensemble_scheduling.step[{index}]", step


def incomplete(config: Message) -> Iterator[Refusal]:
    """No step, or steps without model and maps (``src/model_config_utils.cc:84-103,192-196``)."""
    if not config.ensemble_scheduling.step:
        yield Refusal("an ensemble without a step", "add its steps", "ensemble_scheduling")
    for place, step in steps(config):
        for part in ("model_name", "input_map", "output_map"):
            if not getattr(step, part):
                yield Refusal(f"a step without {part}", f"set {part}", place)


def not_for_ensembles(config: Message) -> Iterator[Refusal]:
    """Fields that only models with a backend have (``src/model_config_utils.cc:170-190``)."""
    there = {
        "instance_group": len(config.instance_group) > 0,
        "optimization": config.HasField("optimization"),
        "model_warmup": len(config.model_warmup) > 0,
    }
    for part, is_there in there.items():
        if is_there:
            yield Refusal(f"{part} in an ensemble", "leave it out, or set it in the ensemble's models", part)


def loose_ends(config: Message) -> Iterator[Refusal]:
    """Tensors that are unused, unmade or made twice (``src/model_config_utils.cc:104-150,198-292``)."""
    if not config.ensemble_scheduling.step:
        return
    nodes = Flow.of(config).nodes
    yield from _loose_tensors(config, nodes)
    outputs = {tensor.name for tensor in config.output}
    for name, node in nodes.items():
        place = f"ensemble_scheduling.step[{(node.made_by or node.taken_by)[0]}]"
        if len(node.made_by) > 1:
            yield Refusal(f"tensor {name!r} is made {len(node.made_by)} times", "give each its own name", place)
        elif name not in outputs and not node.ready:
            mend = "map an output of a step, or an input of the ensemble, to it"
            yield Refusal(f"tensor {name!r} is never made", mend, place)
        elif name not in outputs and not node.taken_by:
            yield Refusal(f"tensor {name!r} is never used", "leave it out of the output_map", place)


def _loose_tensors(config: Message, nodes: dict[str, Node]) -> Iterator[Refusal]:
    for kind in ("input", "output"):
        for index, tensor in enumerate(getattr(config, kind)):
            place = f"{kind}[{index}]"
            if tensor.name not in nodes:
                yield Refusal(f"{kind} {tensor.name!r} is in no step's map", "leave it out, or map it", place)
            elif kind == "output" and not nodes[tensor.name].ready:
                message = f"output {tensor.name!r} cannot be made from the inputs"
                yield Refusal(message, "map what its steps need", place)


def batches_that_do_not_fit(config: Message, called: Sequence[Called]) -> Iterator[Refusal]:
    """A model that batches takes the largest batch (``src/ensemble_scheduler/ensemble_utils.cc:293-304``)."""
    for one in called:
        limit = one.config.max_batch_size
        if 0 < limit < config.max_batch_size:
            yield Refusal(
                f"max_batch_size is {config.max_batch_size}, but {one.step.model_name!r} takes {limit}",
                "raise the model's, or lower the ensemble's",
                one.place,
            )


def maps_that_do_not_fit(called: Sequence[Called]) -> Iterator[Refusal]:
    """Keys that are no tensor of the model, inputs that are not mapped (``ensemble_utils.cc:125-220``)."""
    for one in called:
        model, outputs = repr(one.step.model_name), [tensor.name for tensor in one.config.output]
        for part, names in (("input", [tensor.name for tensor in one.config.input]), ("output", outputs)):
            for key in sorted(getattr(one.step, f"{part}_map")):
                if key not in names:
                    message = f"{model} has no {part} {key!r}; it has: {', '.join(names)}"
                    yield Refusal(message, "correct the key", f"{one.place}.{part}_map")
        for tensor in one.config.input:
            if not tensor.optional and tensor.name not in one.step.input_map:
                message = f"the input {tensor.name!r} of {model} is not mapped"
                yield Refusal(message, "add it to the input_map", one.place)
        for key in sorted(one.step.output_map):
            if outputs.count(key) > 1:
                yield Refusal(f"{model} has several outputs called {key!r}", "give each its own name", one.place)


def links_that_do_not_fit(config: Message, called: Sequence[Called]) -> Iterator[Refusal]:
    """Every use of a tensor against its first mention (``ensemble_utils.cc:84-117``)."""
    known: dict[str, Shape] = {}
    for tensor in (*config.input, *config.output):
        known.setdefault(tensor.name, _shape(config.name, tensor, config.max_batch_size, reshape=True))
    for one in called:
        for part, mapped in (("input", one.step.input_map), ("output", one.step.output_map)):
            for tensor in getattr(one.config, part):
                if tensor.name not in mapped:
                    continue
                here = _shape(one.step.model_name, tensor, one.config.max_batch_size, reshape=False)
                there = known.setdefault(mapped[tensor.name], here)
                if words := _difference(config, here, there):
                    what = f"{part} {tensor.name!r} of {one.step.model_name!r}, tensor {mapped[tensor.name]!r}"
                    yield Refusal(f"{what}: {words}", "make both sides say the same", f"{one.place}.{part}_map")


def _shape(owner: str, tensor: Message, batch: int, *, reshape: bool) -> Shape:
    dims = tensor.reshape.shape if reshape and tensor.HasField("reshape") else tensor.dims
    return Shape(owner, tensor.data_type, tuple(dims), batch > 0)


def _difference(config: Message, here: Shape, there: Shape) -> str:
    owner = repr(there.owner) if there.owner else "the ensemble"
    if here.data_type != there.data_type:
        said = [_type_name(config, one.data_type) for one in (here, there)]
        return f"{said[0]}, but {owner} has {said[1]}"
    return "" if here.fits(there) else f"shape {list(here.full)}, but {owner} has {list(there.full)}"


def _type_name(config: Message, number: int) -> str:
    types = config.DESCRIPTOR.fields_by_name["input"].message_type.fields_by_name["data_type"].enum_type
    known = types.values_by_number.get(number)  # the text format takes numbers, too, also those that have no name
    return known.name if known else str(number)


def streams_that_meet(config: Message, decoupled: Sequence[bool]) -> Iterator[Refusal]:
    """Tensors of one step come from one decoupled model at most (``ensemble_utils.cc:308-366``).

    Args:
        config: the ensemble's.
        decoupled: for each step, whether its model is decoupled.
    """
    if not all(tensor.name in Flow.of(config).nodes for tensor in config.input):
        return
    _, where = decoupled_labels(config, decoupled)
    if where:
        yield Refusal(
            f"{where!r} needs tensors that come through different decoupled models, or through one and none",
            "join them in a model of your own (BLS)",
            "ensemble_scheduling",
        )
