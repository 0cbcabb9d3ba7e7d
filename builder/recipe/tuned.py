"""The file that ``tuned:`` names: for each target, the settings that a sweep found best.

Values: defaults < recipe < tuned < ``--set``. So a target's settings are written over the recipe's document, the
overrides over both, and the whole is read again: what a sweep wrote is held to what a person writes. Imported only for
recipes that name such a file.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field, JsonValue, ValidationError

from builder.errors import RecipeError
from builder.recipe.base import FrozenMapping, Section
from builder.recipe.document import Node, Problem, find, place_of, refuse, to_data
from builder.recipe.files import read_text
from builder.recipe.overrides import write
from builder.recipe.problems import translate
from builder.recipe.reader import parse
from builder.recipe.schema import Recipe, SchemaVersion
from builder.recipe.suggest import did_you_mean
from builder.recipe.sweeping import SERVED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from builder.artifacts import Json
    from builder.recipe import AnyRecipe
    from builder.recipe.document import Keys

_LIMIT_BYTES: Final = 256 * 1024


class TunedTarget(Section):
    """What is best for a target."""

    serving: dict[str, JsonValue] | None = None
    """As in a recipe; null takes back what the recipe says."""

    steps: dict[str, dict[str, JsonValue]] | None = None
    """The same for other steps than the main model."""

    precision: str | None = None
    """As targets.NAME.precision."""

    padding: str | None = None
    """As inputs.padding."""

    buckets: list[int] | None = None
    """As inputs.buckets."""


class TunedFile(Section):
    """The whole file."""

    schema_version: SchemaVersion
    """The version of this format: 1."""

    recipe: str
    """The name of the recipe that was swept."""

    targets: Annotated[FrozenMapping[str, TunedTarget], Field(min_length=1)]
    """What is best for each target."""

    swept: JsonValue = None
    """What the sweep saw, for people."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a recipe's targets have of such a file."""

    file: str  # its name alone: where it lies is no fact about the model
    sha256: str
    targets: dict[str, AnyRecipe]  # target → the recipe with its settings
    said: dict[str, Json]  # target → what the file says of it


def apply(recipe: AnyRecipe, written: Node, path: Path, read: Callable[[Node], AnyRecipe]) -> Tuned:
    """Reads the file, and the recipe anew for each of its targets.

    Args:
        recipe: without it.
        written: the recipe's document, without ``--set``.
        path: of the file.
        read: checks a document with ``--set`` written over it.

    Raises:
        RecipeError: the file cannot be read, was written for another recipe, names a target that there is not or a key
            that no sweep writes; or a value is not what the recipe may have there.
    """
    try:
        text = read_text(path, limit_bytes=_LIMIT_BYTES)
    except RecipeError as error:
        words = "a sweep writes it with --write-tuned: leave tuned out until then"
        message = f"{error.message}{'' if path.exists() else f'; {words}'}"
        raise refuse([Problem(place_of(recipe.root, ("tuned",)), message, ("tuned",))]) from error
    problems: list[Problem] = []
    root = parse(text, str(path), problems)
    problems += _unfit(root, recipe)
    if problems:
        raise refuse(problems)
    made = {target: read(_merged(recipe, written, target, section)) for target, section in _targets(root)}
    said = {target: to_data(section, []) for target, section in _targets(root)}
    return Tuned(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), made, said)


def _targets(root: Node) -> Iterator[tuple[str, Node]]:
    targets = find(root, ("targets",))
    if targets is not None and isinstance(targets.value, dict):
        yield from targets.value.items()


def _unfit(root: Node, recipe: AnyRecipe) -> Iterator[Problem]:
    """What is wrong with the file beside its values."""
    data = to_data(root, [])
    try:
        file = TunedFile.model_validate_json(json.dumps(data))
    except ValidationError as error:
        yield from translate(error, root, TunedFile)
        return
    if file.recipe != recipe.name:
        name = place_of(recipe.root, ("name",)).text
        words = f"was written for {file.recipe!r}, and this recipe is {recipe.name!r} ({name}): sweep this one"
        yield Problem(place_of(root, ("recipe",)), words, ("recipe",))
    for target, section in file.targets.items():
        if target not in recipe.targets:
            known = ", ".join(recipe.targets)
            words = f"the recipe has no such target; allowed: {known}{did_you_mean(target, recipe.targets)}"
            yield Problem(place_of(root, ("targets", target), key=True), words, ("targets", target))
        yield from _unknown(root, ("targets", target, "serving"), section.serving or {})
        for step, serving in (section.steps or {}).items():
            yield from _unknown(root, ("targets", target, "steps", step), serving)


def _unknown(root: Node, place: Keys, serving: dict[str, Any]) -> Iterator[Problem]:
    for key in serving:
        if key not in SERVED:
            words = f"no setting that a sweep writes; allowed: {', '.join(SERVED)}{did_you_mean(key, SERVED)}"
            yield Problem(place_of(root, (*place, key), key=True), words, (*place, key))


def _merged(recipe: AnyRecipe, written: Node, target: str, section: Node) -> Node:
    """The recipe's document with a target's settings over it."""
    root = written
    for source, path in _ways(recipe, target, section):
        over, held = find(section, source), find(root, path)
        if over is not None and over.value is not None:
            root = write(root, tuple(map(str, path)), _over(held, over))
    return root


def _ways(recipe: AnyRecipe, target: str, section: Node) -> Iterator[tuple[Keys, Keys]]:
    """Where each part of a target's settings stands in a recipe."""
    yield ("serving",), ("serving",)
    yield ("precision",), ("targets", target, "precision")
    yield ("padding",), ("inputs", "padding")
    yield ("buckets",), ("inputs", "buckets")
    steps = find(section, ("steps",))
    for step in steps.value if steps is not None and isinstance(steps.value, dict) else ():
        yield ("steps", step), _of_step(recipe, step)


def _of_step(recipe: AnyRecipe, step: str) -> Keys:
    """Where a recipe says how a step is served: a model's step is told of with the model."""
    if isinstance(recipe, Recipe):
        return ("serving", "steps", step)
    section = recipe.pipeline.steps.get(step)
    model = getattr(section, section.kind) if section is not None and section.kind in {"model", "ensemble"} else None
    return ("models", model, "serving") if model else ("pipeline", "steps", step, "serving")


def _over(base: Node | None, over: Node) -> Node:
    """One value over another: mappings key by key, null takes away, everything else replaces."""
    if not isinstance(over.value, dict):
        return over
    held = base.value if base is not None and isinstance(base.value, dict) else {}
    made = {key: _over(held.get(key), item) for key, item in over.value.items() if item.value is not None}
    gone = {key for key, item in over.value.items() if item.value is None}
    kept = {key: item for key, item in held.items() if key not in gone}
    keys = {**(base.keys if base is not None else {}), **over.keys}
    return replace(over, value={**kept, **made}, keys=keys)
