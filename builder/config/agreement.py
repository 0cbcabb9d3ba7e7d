"""What models that meet in a pipeline must agree on: their tokenizers, where they share one, and their labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.config import tokenize_step
from builder.recipe.composed import named_models
from builder.recipe.document import Problem, place_of, refuse
from builder.recipe.steps import AggregateStep, LabelsStep, ModelStep, TokenizerStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import TokenizerFiles
    from builder.config.dag import Dag
    from builder.errors import RecipeError
    from builder.recipe.composed import Composed

_TEXT = "tokenizer.json"


def check_tokenizers(recipe: Composed, dag: Dag, tokenizers: Mapping[str, TokenizerFiles]) -> None:
    """Checks that a tokenizer that several models share is that of each of them.

    Raises:
        RecipeError: two models differ in it.
    """
    steps = recipe.pipeline.steps
    for edge in dag.edges:
        giver, taker = steps.get(edge.source), steps[edge.step]
        if isinstance(giver, TokenizerStep) and isinstance(taker, ModelStep):
            words = _difference(tokenizers[giver.tokenizer], tokenizers[taker.model])
            if words:
                raise _refused(
                    recipe,
                    edge.step,
                    f"model {taker.model!r} takes the token ids of model {giver.tokenizer!r}, "
                    f"but they differ in {words}: give it a step of its own: {{tokenizer: {taker.model}}}",
                )


def _difference(one: TokenizerFiles, other: TokenizerFiles) -> str:
    """In what two tokenizers differ; empty where they are the same."""
    if one.files[_TEXT].sha256 != other.files[_TEXT].sha256:
        return f"their {_TEXT}"
    facts = [tokenize_step.facts(tokenizer) for tokenizer in (one, other)]
    names = [name for name in facts[0] if name != "input_names" and facts[0][name] != facts[1].get(name)]
    return ", ".join(f"{name} ({facts[0][name]!r} and {facts[1].get(name)!r})" for name in names)


def check_labels(recipe: Composed, dag: Dag, labels: Mapping[str, tuple[str, ...]]) -> None:
    """Checks that probabilities that are joined, or get names, are of the same labels in the same order.

    Raises:
        RecipeError: the labels of two models differ.
    """
    origins = _origins(recipe, dag)
    for name, step in recipe.pipeline.steps.items():
        if not isinstance(step, AggregateStep | LabelsStep):
            continue
        first, *others = dict.fromkeys([*named_models(step), *origins[name]]) or ("",)
        for other in others:
            if labels[first] != labels[other]:
                words = f"{first!r} has the labels {_listed(labels[first])}, but {other!r} has {_listed(labels[other])}"
                raise _refused(recipe, name, f"{words}: they cannot be joined")


def _origins(recipe: Composed, dag: Dag) -> dict[str, tuple[str, ...]]:
    """Of each step the models whose answers reach it."""
    found: dict[str, tuple[str, ...]] = {}
    for step in dag.steps:
        section = recipe.pipeline.steps[step.name]
        through = [model for edge in dag.edges_into(step.name) for model in found.get(edge.source, ())]
        if section.kind in {"model", "ensemble", "select"}:
            found[step.name] = named_models(section)
        else:
            found[step.name] = tuple(dict.fromkeys(through)) if section.kind in {"aggregate", "labels"} else ()
    return found


def _listed(labels: tuple[str, ...]) -> str:
    shown = ", ".join(labels[:5])
    return f"{shown}, … ({len(labels)})" if len(labels) > 5 else shown or "none"


def _refused(recipe: Composed, step: str, message: str) -> RecipeError:
    path = ("pipeline", "steps", step)
    return refuse([Problem(place_of(recipe.root, path), f"step {step!r}: {message}", path)])
