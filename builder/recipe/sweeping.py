"""``verify.sweep.settings``: what a sweep tries, as knobs with values. Imported only for recipes that have it.

The section mirrors ``serving``, with lists at its leaves. Each value is checked as if it stood in ``serving`` itself,
so that a sweep never finds out after an hour what the recipe's reader knows at once.
"""

from __future__ import annotations

import json
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from builder.recipe.base import Section
from builder.recipe.checks import View, check
from builder.recipe.document import Node, Problem, dotted, find, place_of, to_data
from builder.recipe.inputs import Inputs
from builder.recipe.overrides import write
from builder.recipe.problems import translate
from builder.recipe.serving import InstanceGroup, Serving
from builder.recipe.suggest import did_you_mean, show
from builder.recipe.targets import Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from builder.artifacts import Json
    from builder.recipe.document import Keys

PLACE: Final = ("verify", "sweep", "settings")
SERVED: Final = (
    "max_batch_size",
    "dynamic_batching",
    "instance_group",
    "parameters",
    "response_cache",
    "optimization",
)
"""Sections of ``serving`` that are settings, and no facts of the model or of its files."""
COPIES: Final = ("count", "kind")
"""What a sweep tries of ``instance_group``."""
BUILT: Final = ("precision", "padding", "buckets", "target")
"""What takes a build of its own."""
STEPS: Final = "steps"


@dataclass(frozen=True, slots=True)
class Leaf:
    """A list of values: ``step`` (empty: the main model), the path in ``serving``, and where it is written."""

    step: str
    path: tuple[str, ...]
    written: Keys
    values: list[Json]

    @property
    def knob(self) -> str:
        """The name that settings have for it."""
        name = ".".join(self.path)
        return f"@{name}" if name in BUILT and not self.step else f"{self.step}:{name}" if self.step else name


def knobs(settings: Mapping[str, Json] | None) -> dict[str, tuple[Json, ...]]:
    """Knob → values, as :class:`builder.sweep.setting.Setting` names them; of a section that was checked."""
    return {leaf.knob: tuple(map(_frozen, leaf.values)) for leaf in _leaves(settings or {}) if isinstance(leaf, Leaf)}


def _frozen(value: Json) -> Json:
    return tuple(value) if isinstance(value, list) else value


def _leaves(settings: Mapping[str, Json]) -> Iterator[Leaf | tuple[Keys, Json]]:
    """The lists of values, in the order of the document; and what is no list, with its value."""
    for name, value in settings.items():
        if name == STEPS and isinstance(value, dict):
            for step, section in value.items():
                yield from _below(section, step, (), (STEPS, step))
        else:
            yield from _below(value, "", tuple(name.split(".")), (name,))


def _below(value: Json, step: str, path: tuple[str, ...], written: Keys) -> Iterator[Leaf | tuple[Keys, Json]]:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):  # instance_group: [{count: [1, 2]}]
        value, written = value[0], (*written, 0)
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _below(item, step, (*path, *key.split(".")), (*written, key))
    elif isinstance(value, list) and path:
        yield Leaf(step, path, written, value)
    else:
        yield written, value


class _One(Section):
    serving: Serving = Serving()
    inputs: Inputs = Inputs()


def problems(root: Node, data: Mapping[str, Json]) -> Iterator[Problem]:
    """All that is wrong with the section of a recipe.

    Args:
        root: the document.
        data: the same as JSON data.
    """
    section = find(root, PLACE)
    settings = data["verify"]["sweep"]["settings"]
    if section is None or not isinstance(settings, dict):
        return
    bare = Node({key: value for key, value in _items(root) if key != "serving"}, root.place, keys=root.keys)
    for leaf in _leaves(settings):
        if not isinstance(leaf, Leaf):
            yield _no_list(section, *leaf)
        elif not leaf.values:
            yield _problem(section, leaf.written, "must not be empty: write at least one value")
        elif leaf.knob == "@buckets":
            yield from _values(section, leaf, bare, ("inputs", "buckets"))
        elif leaf.knob.removeprefix("@") in BUILT and not leaf.step:
            yield from _built(section, leaf, root, data)
        elif (wrong := _unknown(leaf, data)) is not None:
            yield _problem(section, (STEPS, leaf.step) if leaf.step else leaf.written, wrong, key=True)
        else:
            yield from _values(section, leaf, bare, ("serving", *served_path(leaf.path)))


def _items(node: Node) -> Iterable[tuple[str, Node]]:
    return node.value.items() if isinstance(node.value, dict) else ()


def _problem(section: Node, written: Keys, message: str, *, key: bool = False) -> Problem:
    return Problem(place_of(section, written, key=key), message, (*PLACE, *written))


def _no_list(section: Node, written: Keys, value: Json) -> Problem:
    return _problem(section, written, f"must be a list of the values to try, such as [1, 2]; got {show(value)}")


def _unknown(leaf: Leaf, data: Mapping[str, Json]) -> str | None:
    """What is wrong with the name of a knob, as far as its first part."""
    if leaf.step:
        steps = _steps(data)
        if leaf.step not in steps:
            return f"no step {leaf.step!r}; allowed: {', '.join(steps)}{did_you_mean(leaf.step, steps)}"
    allowed = (*SERVED, *(() if leaf.step else (*BUILT, STEPS)))
    first = leaf.path[0]
    if first == "instance_group" and leaf.path[1:2] and leaf.path[1] in set(InstanceGroup.model_fields) - set(COPIES):
        return f"{'.'.join(leaf.path)} is no setting that a sweep can try; allowed: {', '.join(COPIES)}"
    if first in allowed:
        return None
    if first in Serving.model_fields:
        return f"{first} is no setting that a sweep can try; allowed: {', '.join(allowed)}"
    return f"unknown knob; allowed: {', '.join(allowed)}{did_you_mean(first, allowed)}"


def _steps(data: Mapping[str, Json]) -> tuple[str, ...]:
    pipeline = data.get("pipeline")
    named = pipeline.get("steps") if isinstance(pipeline, dict) else None
    return tuple(named) if isinstance(named, dict) else ("tokenize",)


def _built(section: Node, leaf: Leaf, root: Node, data: Mapping[str, Json]) -> Iterator[Problem]:
    targets = tuple(data["targets"]) if isinstance(data.get("targets"), dict) else ("cpu",)
    allowed: tuple[str, ...] = {
        "precision": typing.get_args(Target.model_fields["precision"].annotation),
        "padding": typing.get_args(typing.get_args(Inputs.model_fields["padding"].annotation)[0]),
        "target": targets,
    }[leaf.path[0]]
    for index, value in enumerate(leaf.values):
        written = (*leaf.written, index)
        if value not in allowed:
            words = f"must be one of {', '.join(allowed)}; got {show(value)}{did_you_mean(value, allowed)}"
            yield _problem(section, written, words)
        elif leaf.path == ("precision",):
            for one in _precision(root, targets, value, known={str(one) for one in check(_view(root))}):
                yield _problem(section, written, f"{value}: {one.message}")
    yield from _twice(section, leaf)


def _precision(root: Node, targets: tuple[str, ...], value: str, known: set[str]) -> Iterator[Problem]:
    """What a precision cannot be combined with."""
    for target in targets:
        if find(root, ("targets", target)) is None:  # the default target
            root = write(root, ("targets", target, "runtime"), Node("onnxruntime", root.place))
        changed = write(root, ("targets", target, "precision"), Node(value, root.place, value))
        found = [one for one in check(_view(changed)) if one.path[:2] == ("targets", target)]
        yield from (one for one in found if str(one) not in known)


def _view(root: Node) -> View:
    return View(root, to_data(root, []), frozenset())


def _twice(section: Node, leaf: Leaf) -> Iterator[Problem]:
    said = [json.dumps(value) for value in leaf.values]
    for index, one in enumerate(said):
        if one in said[:index]:
            yield _problem(section, (*leaf.written, index), f"{show(leaf.values[index])} is there twice")


def _values(section: Node, leaf: Leaf, bare: Node, path: Keys) -> Iterator[Problem]:
    yield from _twice(section, leaf)
    for index in range(len(leaf.values)):
        yield from _value(section, leaf, index, bare, path)


def _value(section: Node, leaf: Leaf, index: int, bare: Node, path: Keys) -> Iterator[Problem]:
    """What is wrong with a value, were it written at ``path`` of the recipe."""
    value, item = leaf.values[index], find(section, (*leaf.written, index))
    if value is None or item is None:  # left out: Triton or the recipe's rules decide
        return
    root = write(bare, tuple(map(str, path)), _node(served_value(leaf.path, value), item))
    data, name = to_data(root, []), path[0]
    try:
        _One.model_validate_json(json.dumps({name: data[name]}))
        found = [one for one in check(_view(root)) if one.path[:1] == (name,)]
    except ValidationError as error:
        found = translate(error, root, _One)
    for one in found:
        depth = len([part for part in one.path[1:] if not isinstance(part, int) and part != "0"])
        at_key = depth < len(leaf.path) or "unknown" in one.message.partition(";")[0]
        written = leaf.written if at_key else (*leaf.written, index)
        yield _problem(section, written, one.message.replace(dotted(path), leaf.knob), key=at_key)


def served_path(path: tuple[str, ...]) -> tuple[str, ...]:
    """Where a knob stands in ``serving``: of the first group of instances."""
    return ("instance_group", "0", *path[1:]) if path[0] == "instance_group" and len(path) > 1 else path


def served_value(path: tuple[str, ...], value: Json) -> Json:
    """A knob's value as ``serving`` writes it."""
    if path == ("dynamic_batching",) and value is True:
        return {}
    if path[0] == "parameters" and not isinstance(value, str):
        return json.dumps(value)
    return list(value) if isinstance(value, tuple) else value


def _node(value: Json, like: Node) -> Node:
    """A value at the place of what was written."""
    if isinstance(value, dict):
        return Node({}, like.place)
    if isinstance(value, list):
        return Node([Node(one, like.place, str(one)) for one in value], like.place)
    return Node(value, like.place, like.text)
