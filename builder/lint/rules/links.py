"""What Triton's core refuses between an ensemble and its models, once these are loaded. Lines of core r24.10."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.lint import backend
from builder.lint.dataflow import Flow, Shape, decoupled_labels
from builder.lint.finding import LOAD_ERROR
from builder.lint.python_model import outcome
from builder.lint.rule import Problem, model_rule
from builder.lint.rules.ensemble import MANAGER, needed_models, steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.lint.model import Model, World
    from builder.lint.rule import Problems

UTILS: Final = "core/src/ensemble_scheduler/ensemble_utils.cc"
_LATEST: Final = -1


def _called(model: Model, world: World) -> Iterator[tuple[str, Any, Model, Any]]:
    """(place, step, model, its final config) of the steps whose models and configs are known."""
    for place, step in steps(model):
        called = world.models.get(step.model_name)
        if called is None or called.config is None:
            continue
        config = outcome(called, world).config
        if config is None and called.config.input and called.config.output:
            config = called.config  # its backend may complete it, and changes nothing that is there
        if config is not None:
            yield place, step, called, config


@model_rule(
    "E15",
    LOAD_ERROR,
    "the version that a step asks for is loaded",
    why="-1 is the newest; left out, it is 0. A version that the model's policy does not load is refused.",
    source=f"{MANAGER}:1846-1862; server#2885",
)
def versions_are_loaded(model: Model, world: World) -> Problems:
    """``model_version`` of each step."""
    for place, step in steps(model):
        called = world.models.get(step.model_name)
        if called is None or called.config is None or step.model_version == _LATEST:
            continue
        if step.model_version not in called.loaded_versions:
            loaded = ", ".join(map(str, called.loaded_versions))
            yield Problem(
                f"asks for version {step.model_version} of {step.model_name!r}; loaded: {loaded}",
                "write model_version: -1 for the newest",
                f"{place}.model_version" if step.model_version else place,
            )


@model_rule(
    "E3",
    LOAD_ERROR,
    "an ensemble's max_batch_size is not above that of its models",
    why="A model that batches must take the ensemble's largest batch. (One with max_batch_size 0 sees the batch axis.)",
    source=f"{UTILS}:293-304; server#6776 #443",
)
def batches_fit(model: Model, world: World) -> Problems:
    """``max_batch_size`` against that of each step's model."""
    for place, step, _, config in _called(model, world):
        if 0 < config.max_batch_size < model.config.max_batch_size:
            limit = config.max_batch_size
            yield Problem(
                f"max_batch_size is {model.config.max_batch_size}, but {step.model_name!r} takes {limit}",
                "raise the model's, or lower the ensemble's",
                place,
            )


@model_rule(
    "E13",
    LOAD_ERROR,
    "the maps of a step name tensors that its model has, and all inputs that it needs",
    why="The server compares the maps with the model's config once the model is loaded.",
    source=f"{UTILS}:125-220; server#7355 #446 #5943",
)
def maps_fit(model: Model, world: World) -> Problems:
    """Keys of ``input_map`` and ``output_map`` against the model's inputs and outputs."""
    for place, step, _, config in _called(model, world):
        inputs, outputs = [one.name for one in config.input], [one.name for one in config.output]
        for part, names in (("input", inputs), ("output", outputs)):
            for key in sorted(getattr(step, f"{part}_map")):
                if key not in names:
                    yield Problem(
                        f"{step.model_name!r} has no {part} {key!r}; it has: {', '.join(names)}",
                        "correct the key",
                        f"{place}.{part}_map",
                    )
        for tensor in config.input:
            if not tensor.optional and tensor.name not in step.input_map:
                yield Problem(
                    f"the input {tensor.name!r} of {step.model_name!r} is not mapped", "add it to the input_map", place
                )
        for key in sorted(step.output_map):
            if outputs.count(key) > 1:
                yield Problem(
                    f"{step.model_name!r} has several outputs called {key!r}", "give each its own name", place
                )


@model_rule(
    "E2",
    LOAD_ERROR,
    "tensors that a step links have one type and shapes that fit",
    why="Types must be equal. Shapes must be equal but for -1, without the batch axis or with it.",
    source=f"{UTILS}:84-117; server#7355",
)
def links_fit(model: Model, world: World) -> Problems:
    """Every use of a tensor against its first mention."""
    if not backend.is_ensemble(model):
        return
    known: dict[str, Shape] = {}
    for tensor in (*model.config.input, *model.config.output):
        known.setdefault(tensor.name, _shape(model.name, tensor, model.config.max_batch_size, reshape=True))
    for place, step, called, config in _called(model, world):
        for part, mapped in (("input", step.input_map), ("output", step.output_map)):
            for tensor in getattr(config, part):
                if tensor.name not in mapped:
                    continue
                here = _shape(called.name, tensor, config.max_batch_size, reshape=False)
                there = known.setdefault(mapped[tensor.name], here)
                if words := _difference(model, here, there):
                    what = f"{part} {tensor.name!r} of {called.name!r}, tensor {mapped[tensor.name]!r}"
                    yield Problem(f"{what}: {words}", "make both sides say the same", f"{place}.{part}_map")


def _shape(owner: str, tensor: Any, batch: int, *, reshape: bool) -> Shape:  # noqa: ANN401 - a protobuf message
    dims = tensor.reshape.shape if reshape and tensor.HasField("reshape") else tensor.dims
    return Shape(owner, tensor.data_type, tuple(dims), batch > 0)


def _difference(model: Model, here: Shape, there: Shape) -> str:
    if here.data_type != there.data_type:
        names = model.config.DESCRIPTOR.fields_by_name["input"].message_type.fields_by_name["data_type"].enum_type
        said = [names.values_by_number[one.data_type].name for one in (here, there)]
        return f"{said[0]}, but {there.owner!r} has {said[1]}"
    return "" if here.fits(there) else f"shape {list(here.full)}, but {there.owner!r} has {list(there.full)}"


@model_rule(
    "E10",
    LOAD_ERROR,
    "no step takes tensors that come through different decoupled models, or through one and through none",
    why="One side has many responses for a request: nobody could say which of them belong together.",
    source=f"{UTILS}:308-366; server#7275",
)
def streams_do_not_meet(model: Model, world: World) -> Problems:
    """Tensors of one step come from one decoupled model at most."""
    if not backend.is_ensemble(model) or not all(one.name in Flow.of(model.config).nodes for one in model.config.input):
        return
    _, where = decoupled_labels(model.config, _decoupled_steps(model, world))
    if where:
        yield Problem(
            f"{where!r} needs tensors that come through different decoupled models, or through one and none",
            "join them in a model of your own (BLS)",
            "ensemble_scheduling",
        )


def _decoupled_steps(model: Model, world: World) -> list[bool]:
    return [_is_decoupled(world.models.get(step.model_name), world) for _, step in steps(model)]


def _is_decoupled(model: Model | None, world: World) -> bool:
    """Whether a model is decoupled; an ensemble is so through its steps alone."""
    if model is None or model.config is None:
        return False
    if not backend.is_ensemble(model):
        config = outcome(model, world).config or model.config
        return bool(config.model_transaction_policy.decoupled)
    if model.name in needed_models(model, world):
        return False  # a circle, which is a finding of its own
    return decoupled_labels(model.config, _decoupled_steps(model, world))[0]
