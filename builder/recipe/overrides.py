"""``--set KEY=VALUE``: written over the recipe before it is checked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from builder.recipe.document import DEPTH_LIMIT, Node, Place, Problem, dotted
from builder.recipe.reader import parse
from builder.recipe.suggest import show

if TYPE_CHECKING:
    from collections.abc import Sequence

_AFTER_ALL_LINES = 10**9


class _Refused(Exception):  # noqa: N818
    """Why an override cannot be written."""


def apply(root: Node, overrides: Sequence[str], problems: list[Problem]) -> Node:
    """The tree with each override written into it, in order: a later one wins.

    Args:
        root: the recipe.
        overrides: ``serving.max_batch_size=16``, ``serving.instance_group.0.count=2``; the value is YAML. Mappings that
            are not there are made; index ``n`` of a list of ``n`` appends to it.
        problems: gets what is wrong.

    Raises:
        RecipeError: a value is no YAML.
    """
    for index, override in enumerate(overrides):
        place = Place(f"--set {override}", (_AFTER_ALL_LINES, index))
        key, equals, text = override.partition("=")
        path = tuple(key.strip().split("."))
        if not equals or not all(path) or len(path) > DEPTH_LIMIT:
            problems.append(Problem(place, "must be KEY=VALUE, such as serving.max_batch_size=16"))
            continue
        value = parse(text, place.text, problems, at=place)
        try:
            root = write(root, path, value)
        except _Refused as error:
            problems.append(Problem(place, str(error), path))
    return root


def write(root: Node, path: tuple[str, ...], value: Node) -> Node:
    """The tree with a value at a path; what is not on the way is shared with the old one."""
    return _write(root, path, 0, value)


def _write(node: Node | None, path: tuple[str, ...], depth: int, value: Node) -> Node:
    if depth == len(path):
        return value
    key = path[depth]
    if node is None or node.value is None:
        node = Node([] if key == "0" else {}, value.place)
    if isinstance(node.value, dict):
        child = _write(node.value.get(key), path, depth + 1, value)
        keys = {**node.keys, key: node.keys.get(key, value.place)}
        return replace(node, value={**node.value, key: child}, keys=keys)
    if isinstance(node.value, list):
        index = _index(key, len(node.value), path[:depth])
        child = _write(node.value[index] if index < len(node.value) else None, path, depth + 1, value)
        return replace(node, value=[*node.value[:index], child, *node.value[index + 1 :]])
    raise _Refused(f"{dotted(path[:depth])} is {show(node.value)}: nothing can be set inside it")


def _index(key: str, length: int, parent: tuple[str, ...]) -> int:
    if key.isascii() and key.isdecimal() and len(key) < 6 and int(key) <= length:
        return int(key)
    allowed = f"0 to {length}" if length else "0"
    raise _Refused(f"{dotted(parent)} is a list of {length}: {key!r} is no index of it; allowed: {allowed}")
