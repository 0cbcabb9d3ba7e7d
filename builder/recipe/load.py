"""The way of a recipe: bytes → nodes → overrides → data → checked :class:`Recipe`, or every problem at once."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from builder.errors import RecipeError
from builder.recipe.base import locate
from builder.recipe.checks import View, check
from builder.recipe.document import Node, Problem, find, place_of, refuse, to_data
from builder.recipe.files import read_text
from builder.recipe.overrides import apply
from builder.recipe.problems import translate
from builder.recipe.reader import parse
from builder.recipe.schema import Recipe
from builder.recipe.tasks import complete_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.artifacts import Json
    from builder.recipe.composed import Composed
    from builder.recipe.document import Keys

SIZE_LIMIT_BYTES: Final = 256 * 1024
SAMPLES_LIMIT_BYTES: Final = 64 * 1024 * 1024

_SAMPLES: Final = ("verify", "samples")
_LENGTHS: Final = ("verify", "sweep", "lengths", "samples")
_SETTINGS: Final = ("verify", "sweep", "settings")


def load(path: str | Path, overrides: Sequence[str] = ()) -> Recipe | Composed:
    """Reads, completes and checks a recipe: of one model, or of several (``models:``) in a pipeline of named steps.

    Args:
        path: the YAML file.
        overrides: ``KEY=VALUE`` strings of ``--set``, written over the file before it is checked.

    Raises:
        RecipeError: the file cannot be read, or is wrong; the message has one line per problem, sorted by place.
    """
    path = Path(path)
    problems: list[Problem] = []
    written = parse(_read(path), str(path), problems)
    recipe = _checked(written, path, overrides, problems, samples=True)
    if recipe.tuned is None:
        return recipe
    from builder.recipe import tuned

    return recipe.with_tuned(
        tuned.apply(recipe, written, recipe.tuned, lambda root: _checked(root, path, overrides, [], samples=False))
    )


def _checked(
    written: Node, path: Path, overrides: Sequence[str], problems: list[Problem], *, samples: bool
) -> Recipe | Composed:
    """The recipe of a document, with the overrides in it."""
    root = apply(written, overrides, problems)
    unfit: list[Problem] = []
    data = to_data(root, unfit)
    problems += unfit
    if not isinstance(data, dict):
        raise refuse([*problems, Problem(root.place, _no_mapping(data))])
    folder = path.absolute().parent
    recipe = _validate(root, data, folder, problems, {problem.path for problem in unfit})
    problems += check(View(root, data, frozenset(problem.path for problem in problems)))
    if data.get("handoff") is not None:
        from builder.recipe import handoff

        handoff.read(data["handoff"], root, problems)
    problems += _swept(root, data, problems)
    for place in (_SAMPLES, _LENGTHS, *_calibrations(data)) if samples else ():
        problems += _check_samples(root, folder, place)
    if problems or recipe is None:
        raise refuse(problems)
    return recipe.placed(path.absolute(), tuple(overrides), root)


def _validate(
    root: Node, data: Json, folder: Path, problems: list[Problem], known: set[Keys]
) -> Recipe | Composed | None:
    kind = _kind(data)
    try:
        # As JSON: strict about types ("3" is no number), and yet lists become tuples and strings become paths.
        return kind.model_validate_json(json.dumps(_completed(data)), context={"folder": folder})
    except ValidationError as error:
        problems += [problem for problem in translate(error, root, kind) if problem.path not in known]
        return None


def _kind(data: Mapping[str, Json]) -> type[Recipe | Composed]:
    """One model, or several and a pipeline: what only the latter needs is imported for them alone."""
    if data.get("models") is None and not isinstance(data.get("pipeline"), dict):
        return Recipe
    from builder.recipe.composed import Composed

    return Composed


def _completed(data: Mapping[str, Json]) -> Json:
    """The document, with what the tasks leave no choice in."""
    inputs, models = complete_inputs(data.get("task"), data.get("inputs")), data.get("models")
    made = dict(data) if inputs is None else {**data, "inputs": inputs}
    if isinstance(models, dict):
        made["models"] = {name: _completed(one) if isinstance(one, dict) else one for name, one in models.items()}
    return made


def _calibrations(data: Mapping[str, Json]) -> list[Keys]:
    targets = data.get("targets")
    return [("targets", name, "calibration", "samples") for name in (targets if isinstance(targets, dict) else ())]


def _swept(root: Node, data: Mapping[str, Json], known: Sequence[Problem]) -> list[Problem]:
    """What is wrong with the settings that a sweep tries; what checks them is imported for such recipes alone."""
    node = find(root, _SETTINGS)
    if node is None or node.value is None or any(_SETTINGS[: len(one.path)] == one.path for one in known if one.path):
        return []
    from builder.recipe import sweeping

    return list(sweeping.problems(root, data))


def _check_samples(root: Node, folder: Path, place: Keys) -> list[Problem]:
    """That the file of samples is there and is text: found now, and not when the model is built."""
    node = find(root, place)
    if node is None or not isinstance(node.value, str) or not node.value.strip():
        return []
    try:
        path = locate(folder, node.value)
        text = read_text(path, limit_bytes=SAMPLES_LIMIT_BYTES)
    except RecipeError as error:
        return [Problem(place_of(root, place), error.message, place)]
    except RuntimeError:  # no such user: the schema says so
        return []
    return [] if text.strip() else [Problem(node.place, f"{path}: holds no samples", place)]


def _no_mapping(data: Json) -> str:
    if data is None:
        return "the file is empty; a recipe begins with schema_version, name, source and task"
    return f"a recipe is a mapping of keys to values, got {'a list' if isinstance(data, list) else 'one value'}"


def _read(path: Path) -> str:
    try:
        return read_text(path, limit_bytes=SIZE_LIMIT_BYTES)
    except RecipeError as error:
        raise RecipeError(f"{error.message}{_meant(path)}") from error


def _alike(path: Path) -> Path | None:
    names = [child.name for child in path.parent.iterdir() if child.suffix in {".yaml", ".yml"}]
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.7)
    return path.parent / near[0] if near else None


def _meant(path: Path) -> str:
    """What was probably meant instead of a path that is no file."""
    try:
        if path.is_dir():
            names = sorted(child.name for child in path.iterdir() if child.suffix in {".yaml", ".yml"})
            return f"; the folder holds {', '.join(names[:5])}" if names else ""
        if path.exists() or not path.name:
            return ""
        near = [path.with_suffix(suffix) for suffix in (".yaml", ".yml")]
        if not path.is_absolute():
            near += [Path("recipes") / path.name, Path("recipes", path.name).with_suffix(".yaml")]
        found = next((candidate for candidate in near if candidate.is_file()), None) or _alike(path)
    except (OSError, ValueError):
        return ""
    return f"; did you mean {found}?" if found else ""
