"""Triton's ModelConfig: JSON data ↔ protobuf ↔ ``config.pbtxt``. The text is always written by protobuf.

JSON data here has Triton's own field names (``max_batch_size``), enum values as their names, and numbers as numbers.
"""

from __future__ import annotations

import importlib.util
import struct
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from builder.errors import InternalError, UserError
from builder.tools.text_format import UnreadableError, as_decimal, for_python
from builder.tools.triton_check import BOOL, ENUM, FLOATS, MESSAGE, RANGES, STRING, is_map, is_repeated, misfits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.artifacts import Json
    from builder.tools.triton_check import Descriptor, Keys, Misfit

Message: TypeAlias = Any
"""A protobuf message: protobuf's classes have no types."""

ROOT: Final = "ModelConfig"
_NOT_DECIMAL: Final = ('Expected "true" or "false"', "has no value named")  # what Python says of 0x1 there
_SPELLING: Final = "see model_config.proto of triton-inference-server/common for the fields and their spelling"
_UNSIGNED: Final = (3, 4)  # google.protobuf.descriptor.FieldDescriptor.CPPTYPE_UINT32, CPPTYPE_UINT64

_FLOAT32: Final = 6  # google.protobuf.descriptor.FieldDescriptor.CPPTYPE_FLOAT


def check(data: Json, *, release: str, place: str) -> None:
    """Checks that JSON data is a ModelConfig, whole or in part, that the servers of a release can read.

    Args:
        data: the data.
        release: the Triton release that will read it, ``25.09``.
        place: where the data stands, for messages: ``serving.config``.

    Raises:
        UserError: a field or enum value is unknown, or newer than the release; a value has the wrong type.
    """
    for misfit in problems(data, release=release):
        raise UserError(f"{_place(place, misfit.path)}: {misfit.message}", mend=misfit.mend)


def problems(data: Json, *, release: str) -> Iterator[Misfit]:
    """All that :func:`check` would refuse, each with its path in the data."""
    if data != {}:  # usually there is nothing, and no protobuf to import for it
        yield from misfits(data, _module().ModelConfig.DESCRIPTOR, release)


def json_schema(*path: str) -> dict[str, Json]:
    """The JSON schema of a field of the ModelConfig, for editors.

    Args:
        path: names of fields from the root: ``"dynamic_batching", "default_queue_policy"``; none for the whole.
    """
    descriptor = _module().ModelConfig.DESCRIPTOR
    if not path:
        return _message_schema(descriptor)
    for name in path[:-1]:
        descriptor = descriptor.fields_by_name[name].message_type
    return _field_schema(descriptor.fields_by_name[path[-1]])


def build(data: Mapping[str, Json], *, release: str, place: str = ROOT) -> Message:
    """The ModelConfig message of checked JSON data.

    Raises:
        UserError: as :func:`check`.
    """
    from google.protobuf import json_format

    check(data, release=release, place=place)
    try:
        return json_format.ParseDict(dict(data), _module().ModelConfig())
    except json_format.ParseError as error:
        raise InternalError(f"{place}: checked data is refused by protobuf: {error}") from error


def to_text(message: Message) -> str:
    """The text of ``config.pbtxt``: fields in the order of the proto file, map keys sorted."""
    from google.protobuf import text_format

    return str(text_format.MessageToString(message))


def parse_text(text: str, *, place: str) -> Message:
    """The message of a ``config.pbtxt``.

    Args:
        text: its content.
        place: its path, for messages.

    Raises:
        UserError: it is not such a file; with line and column.
    """
    from google.protobuf import text_format

    try:
        return _parse(for_python(text, _unsigned_fields()))
    except UnreadableError as error:
        raise UserError(f"{place}:{error.line}:1: {error.message}", mend=_SPELLING) from error
    except text_format.ParseError as error:
        line, column = error.GetLine(), error.GetColumn()
        where = f"{place}:{line}:{column}" if line is not None else place
        words = str(error).partition(" : ")[2] or str(error)
        raise UserError(f"{where}: {words}", mend=_SPELLING) from error


def folder_of(text: str, *, place: str, otherwise: str) -> str:
    """The name of the folder that a model must lie in: the one that its ``config.pbtxt`` states.

    Args:
        text: of the file.
        place: what messages call it.
        otherwise: where it states none.

    Raises:
        UserError: it is no ModelConfig, or its name is none of a folder.
    """
    name = str(parse_text(text, place=place).name) or otherwise
    if "/" in name or "\0" in name or name in {".", ".."}:
        raise UserError(f"{place}: name {name!r} is none of a folder", mend="give the model a name without slashes")
    return name


def _parse(text: str) -> Message:
    """The message of a text; booleans and enum values may be octal and hexadecimal numbers, as in C++."""
    from google.protobuf import text_format

    while True:
        try:
            return text_format.Parse(text, _module().ModelConfig())
        except text_format.ParseError as error:
            line, column = error.GetLine(), error.GetColumn()
            known = any(words in str(error) for words in _NOT_DECIMAL)
            other = as_decimal(text, line, column) if known and line and column else None
            if other is None:
                raise
            text = other


def to_json(message: Message) -> dict[str, Json]:
    """The JSON data of a message: the fields that are set, 64-bit integers as numbers.

    An enum's number that has no name, which the text format takes, is a string of digits: :func:`check` refuses it.
    """
    return _message_json(message)


def from_server(data: Mapping[str, Json]) -> dict[str, Json]:
    """The JSON data of a config as a server tells it, where 64-bit integers are strings: as :func:`to_json` has it."""
    from google.protobuf import json_format

    return to_json(json_format.ParseDict(dict(data), _module().ModelConfig(), ignore_unknown_fields=True))


@cache
def _module() -> Descriptor:
    """The generated ``model_config_pb2`` of tritonclient, loaded by its file.

    Importing it by name would import ``tritonclient.grpc`` and with it grpc. protobuf's descriptor pool gives both
    modules the same classes, whichever is loaded first.
    """
    package = importlib.util.find_spec("tritonclient")
    folders = package.submodule_search_locations if package else None
    path = Path(next(iter(folders)), "grpc", "model_config_pb2.py") if folders else None
    if path is None or not path.is_file():
        raise InternalError("the package tritonclient[grpc] is not installed, or holds no model_config_pb2")
    spec = importlib.util.spec_from_file_location("builder.tools._model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def _unsigned_fields() -> frozenset[tuple[str, str]]:
    """(field that holds the message, field) of the fields, anywhere in a ModelConfig, that are unsigned."""
    kinds: dict[tuple[str, str], set[bool]] = {}
    waiting, seen = [("", _module().ModelConfig.DESCRIPTOR)], set()
    while waiting:
        around, descriptor = waiting.pop()
        if (around, descriptor.full_name) not in seen:
            seen.add((around, descriptor.full_name))
            for field in descriptor.fields:
                # Keys of maps are strings, where they are not unsigned: those may not be numbers at all.
                unsigned = field.cpp_type in _UNSIGNED or field.name == "key"
                kinds.setdefault((around, field.name), set()).add(unsigned)
                waiting += [(field.name, field.message_type)] if field.message_type is not None else []
    return frozenset(place for place, unsigned in kinds.items() if unsigned == {True})


def _message_json(message: Message) -> dict[str, Json]:
    return {field.name: _field_json(value, field) for field, value in message.ListFields()}


def _field_json(value: Message, field: Descriptor) -> Json:
    if is_map(field):
        of = field.message_type.fields_by_name["value"]
        return {str(key): _value_json(value[key], of) for key in sorted(value)}
    if is_repeated(field):
        return [_value_json(item, field) for item in value]
    return _value_json(value, field)


def _value_json(value: Message, field: Descriptor) -> Json:
    if field.cpp_type == MESSAGE:
        return _message_json(value)
    if field.cpp_type == ENUM:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else str(value)
    return _shortest(value) if field.cpp_type == _FLOAT32 else value


def _shortest(value: float) -> float:
    """The shortest decimal number that is the same 32-bit float: 0.1, and not 0.10000000149011612."""
    shorter = (float(f"{value:.{digits}g}") for digits in range(1, 10))
    fit = (number for number in shorter if abs(number) <= FLOATS[_FLOAT32])  # not rounded up beyond the largest
    return next((number for number in fit if struct.pack("f", number) == struct.pack("f", value)), value)


def _place(place: str, path: Keys) -> str:
    return place + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def _field_schema(field: Descriptor) -> dict[str, Json]:
    if is_map(field):
        return {"type": "object", "additionalProperties": _value_schema(field.message_type.fields_by_name["value"])}
    value = _value_schema(field)
    return {"type": "array", "items": value} if is_repeated(field) else value


def _message_schema(descriptor: Descriptor) -> dict[str, Json]:
    fields = {field.name: _field_schema(field) for field in descriptor.fields}
    return {"type": "object", "properties": fields, "additionalProperties": False}


def _value_schema(field: Descriptor) -> dict[str, Json]:
    kind = field.cpp_type
    if kind == MESSAGE:
        return _message_schema(field.message_type)
    if kind == ENUM:
        return {"enum": [value.name for value in field.enum_type.values]}
    if kind in RANGES:
        low, high = RANGES[kind]
        return {"type": "integer", "minimum": low, "maximum": high}
    return {"type": "number" if kind in FLOATS else {BOOL: "boolean", STRING: "string"}[kind]}
