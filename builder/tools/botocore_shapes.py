"""Requests to AWS, held against botocore's own models: what its client lets through, the service refuses.

botocore checks required keys, types and minima before it sends; it checks no enum, no maximum and no pattern. All of
them are in its models (``service-2.json``), so a request can be checked whole without a network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from builder.errors import InternalError, MachineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.artifacts import Json

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "structure": (dict,),
    "map": (dict,),
    "list": (list, tuple),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
}
_PROPERTIES: Final = {
    "L": r"\w",
    "M": r"\w",
    "N": r"\d",
    "Z": r"\s",
    "S": r"$+<=>^`|~",
    "P": r"!-/:-@\[-`{-~",
    "Alnum": "a-zA-Z0-9",
    "Print": r"[\x20-\x7e]",  # which stands outside of classes
}
"""Classes that Java's patterns have and Python's have not, inside of a class of Python's; wider where they differ."""

_PAIRS: Final = r"\uD800\uDC00-\uDBFF\uDFFF"
"""How Java's patterns write all characters beyond 16 bits."""

_SHOWN: Final = 60  # characters of a value


@dataclass(frozen=True, slots=True)
class Wrong:
    """One thing in a request that the service would refuse.

    Args:
        path: where, ``ProductionVariants[0].InstanceType``.
        message: the value and what is allowed.
        kind: required | unknown | type | enum | min | max | pattern.
    """

    path: str
    message: str
    kind: str


def check(service: str, operation: str, parameters: Json) -> tuple[Wrong, ...]:
    """What a service would refuse in a request; nothing where it would take it.

    Args:
        service: as boto3 calls it: ``sagemaker``.
        operation: as the API calls it: ``CreateModel``.
        parameters: of the request, as JSON data.

    Raises:
        MachineError: botocore is not installed.
    """
    shape = model(service).operation_model(operation).input_shape
    if shape is None:
        raise InternalError(f"{service} {operation} takes no parameters")
    return tuple(_check(shape, parameters, ""))


def enum(service: str, shape: str) -> tuple[str, ...]:
    """The words that a shape takes: ``enum("sagemaker", "RoutingStrategy")``."""
    return tuple(model(service).shape_for(shape).enum)


def version() -> str:
    """The botocore whose models these are."""
    import botocore

    return str(botocore.__version__)


@cache
def model(service: str) -> Any:  # noqa: ANN401 - botocore has no types
    """The model of a service. Loading that of SageMaker takes 0.2 s.

    Raises:
        MachineError: botocore is not installed.
    """
    try:
        from botocore.loaders import Loader
        from botocore.model import ServiceModel
    except ImportError as error:
        raise MachineError(
            f"{error.name} is not installed: requests cannot be checked", mend="pip install 'tritonsmith[handoff]'"
        ) from error
    return ServiceModel(Loader().load_service_model(service, "service-2"), service)


def _check(shape: Any, value: Json, path: str) -> Iterator[Wrong]:  # noqa: ANN401 - a botocore shape
    kind = shape.type_name
    allowed = _TYPES.get(kind)
    if allowed is not None and (not isinstance(value, allowed) or (isinstance(value, bool) and kind != "boolean")):
        yield Wrong(path, f"must be of type {kind}, got {_shown(value)}", "type")
        return
    yield from _check_bounds(shape, value, path)
    if kind == "structure":
        yield from _check_structure(shape, value, path)
    elif kind == "list":
        for index, item in enumerate(value):
            yield from _check(shape.member, item, f"{path}[{index}]")
    elif kind == "map":
        for key, item in value.items():
            yield from _check(shape.key, key, f"{path}[{key!r}]")
            yield from _check(shape.value, item, f"{path}[{key!r}]")
    elif kind == "string":
        yield from _check_text(shape, value, path)


def _check_structure(shape: Any, value: Mapping[str, Json], path: str) -> Iterator[Wrong]:  # noqa: ANN401
    below = f"{path}." if path else ""
    for name in shape.required_members:
        if name not in value:
            yield Wrong(f"{below}{name}", "is missing", "required")
    for name, item in value.items():
        if name in shape.members:
            yield from _check(shape.members[name], item, f"{below}{name}")
        else:
            yield Wrong(f"{below}{name}", f"is unknown; allowed: {', '.join(shape.members)}", "unknown")


def _check_text(shape: Any, value: str, path: str) -> Iterator[Wrong]:  # noqa: ANN401
    if shape.enum and value not in shape.enum:
        few = len(shape.enum) <= 12
        allowed = ", ".join(shape.enum) if few else f"{len(shape.enum)} words, such as {', '.join(shape.enum[:3])}"
        yield Wrong(path, f"is {_shown(value)}; allowed: {allowed}", "enum")
    pattern = shape.metadata.get("pattern")
    compiled = _compiled(pattern) if pattern else None
    if compiled is not None and not compiled.fullmatch(value):
        yield Wrong(path, f"is {_shown(value)}, which does not match {pattern}", "pattern")


def _check_bounds(shape: Any, value: Json, path: str) -> Iterator[Wrong]:  # noqa: ANN401
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if isinstance(value, bool) or (least is None and most is None):
        return
    size, what = (value, "is") if isinstance(value, int | float) else (len(value), "has a length of")
    if least is not None and size < least:
        yield Wrong(path, f"{what} {size}; at least {least}", "min")
    if most is not None and size > most:
        yield Wrong(path, f"{what} {size}; at most {most}", "max")


@cache
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """A pattern of a model (Java's kind) as Python's; None for one that Python cannot read."""
    pairs = pattern.replace(_PAIRS, r"\U00010000-\U0010ffff")
    try:
        return re.compile(re.sub(r"\\p\{(\w+)\}", lambda found: _PROPERTIES[found[1]], pairs))
    except (re.error, KeyError):
        return None


def _shown(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"
