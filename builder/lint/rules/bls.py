"""Models that call other models (BLS): on SageMaker nobody loads the callees by themselves."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from builder.lint.backend import PYTHON
from builder.lint.finding import HOSTING_ERROR
from builder.lint.graphs import backend
from builder.lint.rule import Problem, model_rule
from builder.lint.rules.hosts import ARGUMENTS, HOSTS, MULTI, closure, loaded, values_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.lint.model import Model, World
    from builder.lint.rule import Problems

_REQUESTS: Final = ("InferenceRequest",)
_LOADS_ITSELF: Final = "load_model"  # pb_utils.load_model


@model_rule(
    "E5",
    HOSTING_ERROR,
    "the models that a Python model calls are loaded",
    why="SageMaker's server loads only the default model and what its ensemble is composed of; callees of BLS are "
    "neither",
    source="server#5452, deep-learning-containers#3299; server docker/sagemaker/serve:183",
    hosts=HOSTS,
)
def callees_loaded(model: Model, world: World) -> Problems:
    extra = values_of(world, "--load-model")
    if model.name not in loaded(world) or "*" in extra:
        return
    for path, line, callee in callees(model):
        if callee not in loaded(world) and callee not in closure(world, extra):
            mend = (
                "make it an ensemble: an archive of a multi-model endpoint loads one model and its steps"
                if world.options.host == MULTI
                else f"add --load-model={callee} to {ARGUMENTS}"
            )
            yield Problem(f"calls {callee!r}, which is not loaded", mend, path=path, line=line)


def callees(model: Model) -> tuple[tuple[str, int, str], ...]:
    """Path, line and name of each model that the served versions call by a name that stands in the code."""
    known: tuple[tuple[str, int, str], ...] | None = model.memo.get("callees")
    if known is None:
        known = model.memo["callees"] = tuple(_callees(model))
    return known


def _callees(model: Model) -> Iterator[tuple[str, int, str]]:
    if model.config is None or backend(model) != PYTHON:
        return
    for version in model.loaded_versions:
        path = model.path(f"{version}/model.py")
        if not model.tree.is_file(path):
            continue
        text = model.tree.read_text(path)
        if _LOADS_ITSELF not in text and any(word in text for word in _REQUESTS):
            yield from ((path, line, name) for line, name in _called(text))


def _called(text: str) -> Iterator[tuple[int, str]]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # another rule says so
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) in _REQUESTS:
            for keyword in node.keywords:
                if keyword.arg == "model_name" and isinstance(keyword.value, ast.Constant):
                    yield node.lineno, str(keyword.value.value)


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
