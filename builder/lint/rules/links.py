"""What Triton's core refuses between an ensemble and its models, once these are loaded. Lines of core r24.10."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.lint import backend
from builder.lint.finding import LOAD_ERROR
from builder.lint.python_model import as_completed, outcome
from builder.lint.rule import Problem, model_rule
from builder.lint.rules.ensemble import MANAGER, needed_models, problems, steps
from builder.tools import triton_ensemble
from builder.tools.triton_ensemble import Called
from builder.tools.triton_flow import decoupled_labels

if TYPE_CHECKING:
    from builder.lint.model import Model, World
    from builder.lint.rule import Problems

UTILS: Final = "core/src/ensemble_scheduler/ensemble_utils.cc"
_LATEST: Final = -1


def _called(model: Model, world: World) -> list[Called]:
    """The steps whose models and configs are known."""
    found = []
    for place, step in steps(model):
        called = world.models.get(step.model_name)
        if called is None or called.config is None:
            continue
        config = outcome(called, world).config
        if config is None and called.config.input and called.config.output:
            config = as_completed(called.config)  # its backend may complete it, and changes nothing that is there
        if config is not None:
            found.append(Called(place, step, config))
    return found


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
    if backend.is_ensemble(model):
        yield from problems(triton_ensemble.batches_that_do_not_fit(model.config, _called(model, world)))


@model_rule(
    "E13",
    LOAD_ERROR,
    "the maps of a step name tensors that its model has, and all inputs that it needs",
    why="The server compares the maps with the model's config once the model is loaded.",
    source=f"{UTILS}:125-220; server#7355 #446 #5943",
)
def maps_fit(model: Model, world: World) -> Problems:
    """Keys of ``input_map`` and ``output_map`` against the model's inputs and outputs."""
    yield from problems(triton_ensemble.maps_that_do_not_fit(_called(model, world)))


@model_rule(
    "E2",
    LOAD_ERROR,
    "tensors that a step links have one type and shapes that fit",
    why="Types must be equal. Shapes must be equal but for -1, without the batch axis or with it.",
    source=f"{UTILS}:84-117; server#7355",
)
def links_fit(model: Model, world: World) -> Problems:
    """Every use of a tensor against its first mention."""
    if backend.is_ensemble(model):
        yield from problems(triton_ensemble.links_that_do_not_fit(model.config, _called(model, world)))


@model_rule(
    "E10",
    LOAD_ERROR,
    "no step takes tensors that come through different decoupled models, or through one and through none",
    why="One side has many responses for a request: nobody could say which of them belong together.",
    source=f"{UTILS}:308-366; server#7275",
)
def streams_do_not_meet(model: Model, world: World) -> Problems:
    """Tensors of one step come from one decoupled model at most."""
    if backend.is_ensemble(model):
        yield from problems(triton_ensemble.streams_that_meet(model.config, _decoupled_steps(model, world)))


def _decoupled_steps(model: Model, world: World) -> list[bool]:
    return [is_decoupled(world.models.get(step.model_name), world) for _, step in steps(model)]


def is_decoupled(model: Model | None, world: World) -> bool:
    """Whether a model is decoupled; an ensemble is so through its steps alone."""
    if model is None or model.config is None:
        return False
    if not backend.is_ensemble(model):
        config = outcome(model, world).config or model.config
        return bool(config.model_transaction_policy.decoupled)
    if model.name in needed_models(model, world):
        return False  # a circle, which is a finding of its own
    return decoupled_labels(model.config, _decoupled_steps(model, world))[0]
