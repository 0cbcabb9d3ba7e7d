"""A stage and its inputs as JSON data: what a worker is told to run.

Unlike a record, an order names the class of every value in it; only classes of ours are ever made from one.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder.errors import InternalError

if TYPE_CHECKING:
    from builder.artifacts import Json
    from builder.core.stage import Stage
    from builder.core.store import Store

CLASS: Final = "$class"
_PATH: Final = "$path"
_TUPLE: Final = "$tuple"
_PACKAGES: Final = ("builder", "tests")


def order_of(
    stage: Stage[Any, Any], inputs: object, node: str, fingerprint: dict[str, Json], store: Store
) -> dict[str, Json]:
    """What a worker is told: the stage, its inputs, what was declared, and where the output goes.

    Raises:
        InternalError: it holds something that another process could not make.
    """
    return {
        "stage": encode(stage),
        "inputs": encode(inputs),
        "node": node,
        "fingerprint": fingerprint,
        "store": str(store.root),
        "owned": [str(folder) for folder in store.owned],
    }


def encode(value: object) -> Json:
    """A value as JSON data that says what it is made of.

    Raises:
        InternalError: it holds something that another process could not make.
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Path):
        return {_PATH: str(value)}
    if isinstance(value, tuple):
        return {_TUPLE: [encode(item) for item in value]}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {CLASS: f"{type(value).__module__}:{type(value).__qualname__}", **fields}
    raise InternalError(f"no other process can be given a {type(value).__name__}")


def decode(data: Json) -> Any:  # noqa: ANN401 - what was encoded
    """The value that :func:`encode` was given.

    Raises:
        InternalError: it names a class that is not ours.
    """
    if isinstance(data, list):
        return [decode(item) for item in data]
    if not isinstance(data, dict):
        return data
    if _PATH in data:
        return Path(data[_PATH])
    if _TUPLE in data:
        return tuple(decode(item) for item in data[_TUPLE])
    fields = {name: decode(item) for name, item in data.items() if name != CLASS}
    return _class(data[CLASS])(**fields) if CLASS in data else fields


def _class(name: str) -> type[Any]:
    module, _, qualname = name.partition(":")
    if module.partition(".")[0] not in _PACKAGES:
        raise InternalError(f"{name}: no class of ours")
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise InternalError(f"{name}: no dataclass")
    return found
