"""Artifacts as JSON, and back: plain dataclasses, so that no validation library has to be imported for a hit.

A :class:`~builder.artifacts.File` is written by its content alone where a record is made: ``{"sha256", "size"}``. Where
its bytes lie is the store's business.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from builder.artifacts import File, Json

T = TypeVar("T")

Locate: TypeAlias = Callable[[str], Path]
"""From a sha256 to where the bytes lie."""

_Decoder: TypeAlias = Callable[[Any, Locate], Any]


class CodecError(ValueError):
    """The data is not what the artifact's class says: it was written by another version of the class."""


def to_json(value: object, *, paths: bool = True) -> Json:
    """An artifact as JSON data.

    Args:
        value: a dataclass, or what dataclasses hold.
        paths: write where files lie; a record does not.

    Raises:
        TypeError: it holds something that is no JSON data.
    """
    if value is None or isinstance(value, str | int | float):  # bool is an int
        return value
    if isinstance(value, File) and not paths:
        return {"sha256": value.sha256, "size": value.size}
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: to_json(getattr(value, name), paths=paths) for name in names}
    if isinstance(value, Mapping):
        return {str(key): to_json(item, paths=paths) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(item, paths=paths) for item in value]
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"no JSON data: {type(value).__name__}")


def from_json(kind: type[T], data: Json, locate: Locate | None = None) -> T:
    """The artifact of ``kind`` that :func:`to_json` wrote.

    Args:
        kind: a dataclass.
        data: JSON data.
        locate: where the bytes of a file lie, for data that was written without paths.

    Raises:
        CodecError: the data is not such an artifact.
    """
    any_kind: Any = kind
    value: T = _decoder(any_kind)(data, locate or _nowhere)
    return value


def files_in(value: object) -> list[File]:
    """Every file that an artifact, or a tuple of artifacts, refers to."""
    if isinstance(value, File):
        return [value]
    if dataclasses.is_dataclass(value):
        return [file for field in dataclasses.fields(value) for file in files_in(getattr(value, field.name))]
    if isinstance(value, Mapping):
        return [file for item in value.values() for file in files_in(item)]
    if isinstance(value, tuple | list):
        return [file for item in value for file in files_in(item)]
    return []


def _nowhere(sha256: str) -> Path:
    raise CodecError(f"nothing says where the file {sha256[:16]}… lies")


@cache
def _decoder(kind: Any) -> _Decoder:  # noqa: ANN401 - an annotation
    if kind is Any:
        return lambda data, _: data
    if kind is File:
        return _file
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        return _optional(arguments)
    if origin is tuple:
        return _tuple(_decoder(arguments[0]))
    if origin in {dict, Mapping}:
        return _dict(_decoder(arguments[1]))
    if origin is typing.Literal:
        return _one_of(arguments)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind)
    return _plain(kind)


def _file(data: Json, locate: Locate) -> File:
    try:
        sha256, size = data["sha256"], data["size"]
        return File(Path(data["path"]) if "path" in data else locate(sha256), sha256, size)
    except (TypeError, KeyError) as error:
        raise CodecError(f"no file: {data!r:.80}") from error


def _optional(arguments: tuple[Any, ...]) -> _Decoder:
    (kind,) = [argument for argument in arguments if argument is not types.NoneType]
    inner = _decoder(kind)
    return lambda data, locate: None if data is None else inner(data, locate)


def _tuple(item: _Decoder) -> _Decoder:
    def decode(data: Json, locate: Locate) -> tuple[Any, ...]:
        if not isinstance(data, list):
            raise CodecError(f"no list: {data!r:.80}")
        return tuple(item(entry, locate) for entry in data)

    return decode


def _dict(item: _Decoder) -> _Decoder:
    def decode(data: Json, locate: Locate) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise CodecError(f"no mapping: {data!r:.80}")
        return {key: item(entry, locate) for key, entry in data.items()}

    return decode


def _one_of(allowed: tuple[Any, ...]) -> _Decoder:
    def decode(data: Json, _: Locate) -> Json:
        if data not in allowed:
            raise CodecError(f"none of {', '.join(map(repr, allowed))}: {data!r:.80}")
        return data

    return decode


def _dataclass(kind: Any) -> _Decoder:  # noqa: ANN401 - a dataclass
    hints = typing.get_type_hints(kind)
    decoders = {field.name: _decoder(hints[field.name]) for field in dataclasses.fields(kind)}

    def decode(data: Json, locate: Locate) -> Any:  # noqa: ANN401 - an instance of kind
        if not isinstance(data, dict) or data.keys() - decoders.keys():
            raise CodecError(f"no {kind.__name__}: {data!r:.80}")
        try:
            return kind(**{name: decoders[name](item, locate) for name, item in data.items()})
        except TypeError as error:
            raise CodecError(f"no {kind.__name__}: {error}") from error

    return decode


def _plain(kind: type[Any]) -> _Decoder:
    allowed = (int, float) if kind is float else (str, Path) if kind is Path else (kind,)

    def decode(data: Json, _: Locate) -> Any:  # noqa: ANN401 - an instance of kind
        if not isinstance(data, allowed):
            raise CodecError(f"no {kind.__name__}: {data!r:.80}")
        return kind(data)

    return decode
