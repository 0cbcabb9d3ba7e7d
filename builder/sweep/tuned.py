"""Writes what won into the file that a recipe's ``tuned:`` names: see :mod:`builder.recipe.tuned`, which reads it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

from builder.errors import UserError, disk_error
from builder.recipe import Recipe
from builder.recipe.checks import OF_THE_WHOLE
from builder.recipe.sweeping import served_path, served_value
from builder.tools.atomic import write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.artifacts import Json
    from builder.recipe import AnyRecipe
    from builder.sweep.setting import Setting
    from builder.sweep.swept import Swept, Tried

_THREADS: Final = "intra_op_thread_count"
_HEAD: Final = "# Settings that `tritonsmith sweep` found best; a recipe takes them with `tuned: <this file>`.\n"


def section(recipe: AnyRecipe, target: str, winner: Setting, own: Mapping[str, Json], main: str = "") -> dict[str, Any]:
    """What the file says of a target.

    Args:
        recipe: what was swept.
        target: of the recipe.
        winner: the setting that won.
        own: the ModelConfig of the main model that was swept. Where the copies change, its threads are written too:
            else a build would choose them anew, and serve what nobody measured.
        main: the main model's step, in a recipe with named steps: there ``serving`` is of the whole.
    """
    if isinstance(recipe, Recipe):
        main = ""
    made: dict[str, Any] = {}
    group = _first_group(recipe, target)
    for knob, value in winner.values:
        if knob.startswith("@"):
            if knob != "@target":  # says which section this is
                made[knob.removeprefix("@")] = list(value) if isinstance(value, tuple) else value
            continue
        step, _, name = knob.rpartition(":")
        step = step or ("" if name.partition(".")[0] in OF_THE_WHOLE else main)
        place = made.setdefault("steps", {}).setdefault(step, {}) if step else made.setdefault("serving", {})
        _put(place, tuple(name.split(".")), value, {} if step else group)
    serving = made.get("steps", {}).get(main, {}) if main else made.get("serving", {})
    threads = own.get("parameters", {}).get(_THREADS, {}).get("string_value")
    if threads and "instance_group" in serving and _THREADS not in serving.get("parameters", {}):
        serving.setdefault("parameters", {})[_THREADS] = threads
    return _over(recipe.tuned_section(target), made)  # what was swept had what an earlier sweep found


def _over(base: Mapping[str, Json], over: Mapping[str, Json]) -> dict[str, Any]:
    made = dict(base)
    for key, value in over.items():
        held = made.get(key)
        made[key] = _over(held, value) if isinstance(held, dict) and isinstance(value, dict) else value
    return made


def _first_group(recipe: AnyRecipe, target: str) -> dict[str, Json]:
    groups = recipe.for_target(target).serving.model_dump(mode="json", exclude_none=True).get("instance_group")
    return dict(groups[0]) if groups else {}


def _put(place: dict[str, Any], path: tuple[str, ...], value: Json, group: Mapping[str, Json]) -> None:
    """Writes a knob's value where a recipe has it."""
    if path == ("dynamic_batching",) and value is True and isinstance(place.get("dynamic_batching"), dict):
        return
    *above, last = served_path(path)
    for key in above:
        if key == "0":
            continue
        if key == "instance_group":
            place = place.setdefault(key, [dict(group)])[0]
        else:
            if not isinstance(place.get(key), dict):
                place[key] = {}
            place = place[key]
    place[last] = None if value is None else served_value(path, value)


def winners(swept: Swept, target: str) -> dict[str, Tried]:
    """The best of each target that surely meets the constraints; ``target``: of settings that name none."""
    found: dict[str, Tried] = {}
    for one in swept.ranking:
        if one.verdict == "met":
            found.setdefault(str(one.point.setting.get("@target", target)), one)
    return found


def facts(swept: Swept, best: Tried) -> dict[str, Json]:
    """What a sweep saw of its best point, for whoever reads the file."""
    figures = {name: best.point.figure(name) for name in ("throughput", "p50_ms", "p99_ms", "memory_mb")}
    return {
        "load": best.point.load.label,
        **{name: round(value, 2) for name, value in figures.items() if value is not None},
        "hardware": swept.hardware.cpu,
        "cpus": swept.hardware.usable_cpus,
        "at": swept.at,
    }


def check(path: Path, recipe: AnyRecipe) -> None:
    """Checks that what is there may be written over.

    Raises:
        UserError: it is for another recipe, or no such file at all.
    """
    _existing(path, recipe.name)


def write_tuned(
    path: Path, recipe: AnyRecipe, sections: Mapping[str, Mapping[str, Json]], swept: Mapping[str, Json]
) -> None:
    """Writes the file; what it says of other targets stays.

    Args:
        path: of the file.
        recipe: what was swept.
        sections: target → :func:`section`.
        swept: target → what the sweep saw, for people.

    Raises:
        UserError: the file that is there is for another recipe, or none at all.
        MachineError: it cannot be written.
    """
    from ruamel.yaml import YAML

    old = _existing(path, recipe.name)
    document = {
        "schema_version": 1,
        "recipe": recipe.name,
        "targets": {**_mapping(old.get("targets")), **sections},
        "swept": {**_mapping(old.get("swept")), **swept},
    }
    yaml, text = YAML(typ="safe", pure=True), io.StringIO()
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(_plain(document), text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, (_HEAD + text.getvalue()).encode())
    except OSError as error:
        raise disk_error(path, error) from error


def _existing(path: Path, name: str) -> dict[str, Any]:
    if not path.exists():
        return {}
    from builder.recipe.document import to_data
    from builder.recipe.files import read_text
    from builder.recipe.reader import parse

    data = to_data(parse(read_text(path, limit_bytes=1 << 18), str(path), []), [])
    if not isinstance(data, dict) or data.get("recipe") != name:
        raise UserError(
            f"{path}: is there, and is no file of settings for {name!r}", mend="name another file with --write-tuned"
        )
    return data


def _mapping(value: Json) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _plain(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
