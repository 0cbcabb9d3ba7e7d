"""What Triton's core refuses in ensembles. Lines of core r24.10."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.lint import backend
from builder.lint.finding import LOAD_ERROR
from builder.lint.model import REPOSITORY
from builder.lint.rule import Problem, model_rule
from builder.lint.rules.core import CORE
from builder.tools import triton_ensemble

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.lint.model import Model, World
    from builder.lint.rule import Problems
    from builder.tools.triton_ensemble import Refusal

MANAGER: Final = "core/src/model_repository_manager/model_repository_manager.cc"


def steps(model: Model) -> Iterator[tuple[str, Any]]:
    """(place, step) of an ensemble; nothing for another model."""
    if backend.is_ensemble(model):
        yield from triton_ensemble.steps(model.config)


def problems(refusals: Iterable[Refusal]) -> Problems:
    """What the server refuses, as a rule reports it."""
    for one in refusals:
        yield Problem(one.message, one.mend, one.field)


@model_rule(
    "E14",
    LOAD_ERROR,
    "ensembles, and only they, have ensemble_scheduling",
    why='The core refuses platform: "ensemble" without steps, and steps on another platform.',
    source=f"{CORE}:163-169,1600-1612",
)
def scheduling_is_for_ensembles(model: Model, _world: World) -> Problems:
    """``platform`` and ``ensemble_scheduling`` come together."""
    if model.config is None:
        return
    is_platform = backend.completed(model).platform == backend.ENSEMBLE
    if backend.is_ensemble(model) and not is_platform:
        yield Problem('ensemble_scheduling without platform: "ensemble"', "set platform", "ensemble_scheduling")
    elif is_platform and not backend.is_ensemble(model):
        yield Problem("an ensemble without ensemble_scheduling", "add its steps", "platform")


@model_rule(
    "E4",
    LOAD_ERROR,
    "every step has a model, an input_map and an output_map",
    why="The core refuses a step without them, and an ensemble without steps.",
    source=f"{CORE}:84-103,192-196; server#2885",
)
def steps_are_complete(model: Model, _world: World) -> Problems:
    """``model_name``, ``input_map``, ``output_map`` of each step."""
    if backend.is_ensemble(model):
        yield from problems(triton_ensemble.incomplete(model.config))


@model_rule(
    "E1",
    LOAD_ERROR,
    "an ensemble's tensors form a graph from its inputs to its outputs",
    why="Every input is used, every output made, every tensor made once and used, and nothing waits for itself.",
    source=f"{CORE}:104-150,198-292",
)
def tensors_flow(model: Model, _world: World) -> Problems:
    """Nothing is unused, unmade or made twice."""
    if backend.is_ensemble(model):
        yield from problems(triton_ensemble.loose_ends(model.config))


@model_rule(
    "E6",
    LOAD_ERROR,
    "an ensemble has no instance_group, optimization or model_warmup",
    why="It runs nothing itself: its models have them.",
    source=f"{CORE}:170-190",
)
def ensembles_run_nothing(model: Model, _world: World) -> Problems:
    """Fields that only models with a backend have."""
    if backend.is_ensemble(model):
        yield from problems(triton_ensemble.not_for_ensembles(model.config))


@model_rule(
    "E11",
    LOAD_ERROR,
    "the models of an ensemble are in the repository",
    why="The server loads them with the ensemble, and refuses it when one is missing.",
    source=f"{MANAGER}:2045-2110",
)
def models_are_there(model: Model, world: World) -> Problems:
    """Each ``model_name`` is a folder beside the ensemble's."""
    if world.layout != REPOSITORY:
        return  # a single folder: what lies beside it is not seen
    for place, step in steps(model):
        if step.model_name and step.model_name not in world.models:
            yield Problem(
                f"there is no model {step.model_name!r} in the repository",
                "add it, or correct model_name",
                f"{place}.model_name",
            )


@model_rule(
    "E12",
    LOAD_ERROR,
    "ensembles do not contain one another in a circle",
    why="The server refuses the circle, and crashes on some.",
    source=f"{MANAGER}:2185-2220",
)
def no_circles(model: Model, world: World) -> Problems:
    """The ensemble is not among what it needs."""
    if backend.is_ensemble(model) and model.name in needed_models(model, world):
        names = {step.model_name for _, step in steps(model)}
        place = next(
            place
            for place, step in steps(model)
            if step.model_name == model.name or model.name in needed_models(world.models.get(step.model_name), world)
        )
        yield Problem(
            f"the ensemble needs itself, through {', '.join(sorted(names))}", "take the step out", f"{place}.model_name"
        )


def needed_models(model: Model | None, world: World) -> set[str]:
    """The names of all models that an ensemble needs, at any depth."""
    found, waiting = set[str](), [model] if model is not None else []
    while waiting:
        for _, step in steps(waiting.pop()):
            if step.model_name not in found:
                found.add(step.model_name)
                if (next_one := world.models.get(step.model_name)) is not None:
                    waiting.append(next_one)
    return found
