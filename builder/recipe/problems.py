"""pydantic's errors → one line each: path, value, what is allowed, a suggestion."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel
from typing_extensions import is_typeddict

from builder.recipe.document import Problem, find, place_of
from builder.recipe.suggest import did_you_mean, show
from builder.recipe.triton import DERIVED, derived

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from builder.recipe.document import Keys, Node

_EXPECTED: Final[Mapping[str, str]] = {
    "string_type": "a string",
    "path_type": "a string",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "none_required": "left out",
}
_LIMITS: Final[Mapping[str, tuple[str, str]]] = {
    "greater_than_equal": ("ge", "at least"),
    "less_than_equal": ("le", "at most"),
    "greater_than": ("gt", "more than"),
    "less_than": ("lt", "less than"),
}


def translate(error: ValidationError, root: Node, model: type[BaseModel]) -> list[Problem]:
    """All problems that pydantic found, each with the place in the document."""
    return [_problem(detail, root, model) for detail in error.errors(include_url=False) if not _is_echo(detail)]


def _is_echo(detail: ErrorDetails) -> bool:
    """Whether it only follows from another: a default that could not be computed, wrong items that were not counted."""
    if detail["type"] == "default_factory_not_called":
        return True
    value = detail["input"]
    return detail["type"] == "too_short" and isinstance(value, list) and len(value) >= detail["ctx"]["min_length"]


def _problem(detail: ErrorDetails, root: Node, model: type[BaseModel]) -> Problem:
    location = detail["loc"]
    path = tuple(part for part in location if not _is_tag(part) and part != "[key]")
    kind = detail["type"]
    if kind == "extra_forbidden":
        return Problem(place_of(root, path, key=True), _unknown_key(location, model), path)
    if kind == "missing":
        return Problem(place_of(root, path), "missing; it has no default", path)
    if kind in {"union_tag_not_found", "union_tag_invalid"}:
        return Problem(place_of(root, path), _one_of(detail["input"], _tags(location, model)), path)
    return Problem(place_of(root, path, key="[key]" in location), _message(detail, find(root, path)), path)


def _message(detail: ErrorDetails, node: Node | None) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind in _EXPECTED:
        return f"must be {_EXPECTED[kind]}, got {show(value)}{_quoting(kind, value, node)}"
    if kind in _LIMITS:
        key, words = _LIMITS[kind]
        limit = context[key]
        return f"must be {words} {int(limit) if limit == int(limit) else limit}, got {show(value)}"
    if kind == "literal_error":
        return _choice(context["expected"], value)
    if kind in {"too_short", "string_too_short"}:
        return f"must not be empty (at least {context['min_length']})"
    if kind in {"too_long", "string_too_long"}:
        return f"must not be longer than {context['max_length']}"
    return detail["msg"]


def _quoting(kind: str, value: object, node: Node | None) -> str:
    if kind in {"string_type", "path_type"} and isinstance(value, int | float) and node is not None and node.text:
        return f'; quote it: "{node.text}"'
    if kind in {"int_type", "float_type"} and isinstance(value, str) and value.strip().lstrip("+-").isdecimal():
        return "; remove the quotes"
    return ""


def _choice(expected: str, value: object) -> str:
    if expected == "False":  # the other choice is a mapping: it is told by what it is not
        return f"must be false or a mapping, got {show(value)}"
    words = [word for part in expected.split(" or ") for word in part.split(", ")]
    choices = [word.strip("'") for word in words if word.startswith("'")]
    return f"must be {expected}, got {show(value)}{did_you_mean(value, choices)}"


def _tags(location: Keys, model: type[BaseModel]) -> list[str]:
    """The keys of which a mapping at a place has exactly one: each says what it is."""
    return [kind.kind for kind in _kinds_at(location, model) if hasattr(kind, "kind")]


def _one_of(value: object, tags: list[str]) -> str:
    kinds = ", ".join(tags)
    if not isinstance(value, dict):
        return f"must be a mapping with exactly one of {kinds}, got {show(value)}"
    named = [key for key in value if key in tags]
    if named:
        return f"must have exactly one of {kinds}; got {' and '.join(named)}"
    hint = next((hint for key in value if (hint := did_you_mean(key, tags))), "")
    return f"must have exactly one of {kinds}; got {', '.join(map(str, value)) or 'none'}{hint}"


def _unknown_key(location: Keys, model: type[BaseModel]) -> str:
    allowed = list(dict.fromkeys(key for kind in _kinds_at(location[:-1], model) for key in _fields(kind)))
    if not allowed:
        return "unknown key; none is allowed here"
    key = str(location[-1])
    if location[-2:-1] == ("serving",) and key in DERIVED:
        return f"{derived(key, DERIVED[key])}; leave it out"
    return f"unknown key; allowed: {', '.join(allowed)}{did_you_mean(location[-1], allowed)}"


def _kinds_at(location: Keys, model: type[BaseModel]) -> list[type]:
    """The kinds of mapping that may stand at a place."""
    kinds: list[type] = [model]
    names_follow = False  # the user's own, which may be those of fields, too
    for part in location:
        if names_follow and not _is_tag(part):
            names_follow = False
        elif _is_tag(part):
            kinds = [kind for kind in kinds if getattr(kind, "kind", None) in {None, str(part)[1:-1]}]
        elif fields := [_fields(kind)[str(part)] for kind in kinds if part in _fields(kind)]:
            kinds = [kind for annotation in fields for kind in _mappings(annotation)]
            names_follow = any(typing.get_origin(annotation) is Mapping for annotation in fields)
    return kinds


def _fields(kind: type) -> Mapping[str, object]:
    if issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    return typing.get_type_hints(kind, include_extras=True)


def _mappings(annotation: object) -> Iterator[type]:
    """The models and typed dictionaries inside a type."""
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or is_typeddict(annotation)):
        yield annotation
    else:
        for argument in typing.get_args(annotation):
            yield from _mappings(argument)


def _is_tag(part: str | int) -> bool:
    return isinstance(part, str) and part.startswith("<") and part.endswith(">")
