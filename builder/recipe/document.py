"""A YAML document as a tree of nodes, each of which knows its place, and what is wrong with it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from builder.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.artifacts import Json

Scalar: TypeAlias = "bool | int | float | str | None"
Keys: TypeAlias = "tuple[str | int, ...]"
"""Keys and indexes from the root to a value."""

DEPTH_LIMIT: Final = 40
NODE_LIMIT: Final = 20_000  # values after every alias is expanded

_NOT_ONE_LINE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written. ``order`` sorts places: line and column, overrides last."""

    text: str  # file:line:column, or --set KEY=VALUE
    order: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, in one line."""

    place: Place
    message: str
    path: Keys = ()

    def __str__(self) -> str:
        what = f"{dotted(self.path)}: " if self.path else ""
        line = f"{self.place.text}: {what}{self.message}"
        return _NOT_ONE_LINE.sub(lambda match: match[0].encode("unicode_escape").decode(), line)


@dataclass(slots=True)
class Node:
    """A value and its place. Of a mapping, ``keys`` holds the place of each key; ``text`` is a scalar as written."""

    value: Scalar | list[Node] | dict[str, Node]
    place: Place
    text: str = ""
    keys: dict[str, Place] = field(default_factory=dict)


def dotted(path: Keys) -> str:
    """The path as ``--set`` takes it: ``serving.instance_group.0.count``."""
    return ".".join(str(part) for part in path)


def refuse(problems: Iterable[Problem]) -> RecipeError:
    """One error for all problems of a file, one line each, sorted by place."""
    lines = dict.fromkeys(str(problem) for problem in sorted(problems, key=lambda problem: problem.place.order))
    return RecipeError("\n".join(lines))


def to_data(root: Node, problems: list[Problem]) -> Json:
    """The JSON data of a tree, aliases expanded.

    Args:
        root: the tree.
        problems: gets the scalars that cannot be JSON data; they become None.

    Raises:
        RecipeError: aliases expand to more than ``NODE_LIMIT`` values.
    """
    count = 0

    def convert(node: Node, path: Keys) -> Json:
        nonlocal count
        count += 1
        if count > NODE_LIMIT:
            raise refuse([Problem(root.place, f"more than {NODE_LIMIT} values once every alias is expanded")])
        if isinstance(node.value, dict):
            return {key: convert(child, (*path, key)) for key, child in node.value.items()}
        if isinstance(node.value, list):
            return [convert(child, (*path, index)) for index, child in enumerate(node.value)]
        if (wrong := unfit(node.value)) is not None:
            problems.append(Problem(node.place, wrong, path))
            return None
        return node.value

    return convert(root, ())


def unfit(value: Scalar) -> str | None:
    """Why a scalar cannot be JSON data that Triton and a file system take; None when it can."""
    if isinstance(value, float) and not abs(value) < float("inf"):
        return "must be a finite number"
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return "the number does not fit into 64 bits"
    if isinstance(value, str) and "\0" in value:
        return "the string holds a NUL character"
    if isinstance(value, str) and _SURROGATE.search(value):
        return "the string holds half of a surrogate pair, which is no character"
    return None


def find(root: Node, path: Keys) -> Node | None:
    """The node at a path, if there is one."""
    node = root
    for part in path:
        if (child := _child(node, part)) is None:
            return None
        node = child
    return node


def _child(node: Node, part: str | int) -> Node | None:
    if isinstance(node.value, dict):
        return node.value.get(str(part))
    if isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
        return node.value[part]
    return None


def place_of(root: Node, path: Keys, *, key: bool = False) -> Place:
    """The place of the value at a path (or of its key), or of the nearest thing above it that was written."""
    while path:
        parent = find(root, path[:-1])
        if key and parent is not None and path[-1] in parent.keys:
            return parent.keys[str(path[-1])]
        if (node := find(root, path)) is not None:
            return node.place
        path, key = path[:-1], True
    return root.place
