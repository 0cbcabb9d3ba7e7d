"""What is known of a model's tensors before anything is built: from its task alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.config.dag import Dag, Port, compile_dag
from builder.config.ports import ANY, ModelPorts, ports
from builder.config.refuse import placed
from builder.errors import RecipeError
from builder.recipe.composed import named_models
from builder.recipe.steps import EnsembleStep, ModelStep, SelectStep, TokenizerStep
from builder.recipe.tasks import IMAGE, TASKS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.recipe import Recipe
    from builder.recipe.composed import Composed, Model
    from builder.recipe.steps import AnyStep

_TOKENS: Final = (
    Port("input_ids", "INT64", (ANY,)),
    # Some models have no token types: only the graph says.
    Port("token_type_ids", "INT64", (ANY,), optional=True),
    Port("attention_mask", "INT64", (ANY,)),
)
_PIXELS: Final = (Port("pixel_values", "FP32", (3, ANY, ANY)),)
_READ_BY: Final = {"token-classification": "entities", "question-answering": "spans"}
_OF_EACH_TOKEN: Final = {"token-classification": (ANY, ANY)}


def declared(model: Model | Recipe) -> ModelPorts:
    """The tensors that a model of its task has; sizes that only the graph knows are -1."""
    dims = _OF_EACH_TOKEN.get(model.task, (ANY,))
    return ModelPorts(
        takes=_PIXELS if TASKS[model.task].takes == IMAGE else _TOKENS,
        gives=tuple(Port(name, "FP32", dims) for name in TASKS[model.task].outputs),
        text_pair=model.inputs.text_pair,
    )


def declared_dag(recipe: Composed) -> Dag:
    """The pipeline of a recipe, checked as far as the recipe says what flows in it.

    Raises:
        RecipeError: an edge does not fit, or a step is not what it must be; with the places in the recipe.
    """
    return checked_dag(recipe, {name: declared(model) for name, model in recipe.models.items()})


def checked_dag(recipe: Composed, models: Mapping[str, ModelPorts]) -> Dag:
    """The pipeline of a recipe with what is known of its models.

    Raises:
        RecipeError: as :func:`declared_dag`.
    """
    pipeline = recipe.pipeline
    with placed(recipe.root):
        steps = ports(pipeline.steps, models, {name: _batch(recipe, step) for name, step in pipeline.steps.items()})
        outputs = pipeline.outputs if isinstance(pipeline.outputs, tuple) else dict(pipeline.outputs)
        dag = compile_dag(recipe.name, steps, outputs, recipe.max_batch_size)
        _refuse_tokens(recipe, dag)
        return dag


def _refuse_tokens(recipe: Composed, dag: Dag) -> None:
    """Refuses outputs with an axis of tokens: as long as the longest text of a batch, whosever it is."""
    for name, (giver, port) in dag.outputs.items():
        section = recipe.pipeline.steps[giver]
        named = {recipe.models[model].task for model in named_models(section) if model in recipe.models}
        kind = next((kind for task, kind in _READ_BY.items() if task in named), "")
        if isinstance(section, TokenizerStep) or (kind and section.kind in {"model", "ensemble", "select"}):
            way = f"put a step {{{kind}: …}} after it and name what that gives" if kind else "leave it out"
            raise RecipeError(
                f"pipeline {recipe.name!r}: output {name!r}: {giver}.{port.name} has an axis of tokens, whose length "
                f"depends on what else is in the batch; {way}, or take a step of your own that makes one size of it"
            )


def _batch(recipe: Composed, step: AnyStep) -> int:
    """The rows that a step takes at once."""
    match step:
        case ModelStep(model=model) | EnsembleStep(ensemble=model):
            return model_batch(recipe, model)
        case SelectStep(select=select):
            named = [*select.cases.values(), *([select.default] if select.default else [])]
            return min((model_batch(recipe, model) for model in named if model in recipe.models), default=1)
    return step.serving.max_batch_size or recipe.max_batch_size


def model_batch(recipe: Composed, model: str) -> int:
    """The rows that a model takes at once; of one that is not there, as many as the whole."""
    found = recipe.models.get(model)
    return recipe.max_batch_size if found is None else found.serving.max_batch_size or found.shapes.batch.max


def models_at_once(dag: Dag, recipe: Composed) -> int:
    """How many models may run at the same time for one request: those that are equally far from its beginning."""
    depth: dict[str, int] = {}
    for step in dag.steps:
        depth[step.name] = 1 + max((depth.get(edge.source, 0) for edge in dag.edges_into(step.name)), default=0)
    steps = recipe.pipeline.steps.items()
    placed = {(depth[name], *named_models(step)) for name, step in steps if step.kind in {"model", "ensemble"}}
    levels = [level for level, _ in placed]
    return max((levels.count(level) for level in levels), default=1)
