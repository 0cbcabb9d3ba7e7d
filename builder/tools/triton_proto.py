"""Triton's ModelConfig: JSON data ↔ protobuf ↔ ``config.pbtxt``. The text is always written by protobuf.

JSON data here has Triton's own field names (``max_batch_size``), enum values as their names, and numbers as numbers.
"""

from __future__ import annotations

import difflib
import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from builder.errors import InternalError, UserError
from builder.tools.triton_fields import FIRST_RELEASE, knows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.artifacts import Json

Message: TypeAlias = Any
"""A protobuf message: protobuf's classes have no types."""

Descriptor: TypeAlias = Any
"""What protobuf knows of a message, a field or an enum."""

ROOT: Final = "ModelConfig"

# google.protobuf.descriptor.FieldDescriptor.CPPTYPE_*, as the generated descriptors number them.
_RANGES: Final = {
    1: (-(2**31), 2**31 - 1),  # int32
    2: (-(2**63), 2**63 - 1),  # int64
    3: (0, 2**32 - 1),  # uint32
    4: (0, 2**64 - 1),  # uint64
}
_FLOATS: Final = (5, 6)
_BOOL: Final = 7
_ENUM: Final = 8
_STRING: Final = 9
_MESSAGE: Final = 10


def check(data: Json, *, release: str, place: str) -> None:
    """Checks that JSON data is a ModelConfig, whole or in part, that the servers of a release can read.

    Args:
        data: the data.
        release: the Triton release that will read it, ``25.09``.
        place: where the data stands, for messages: ``serving.config``.

    Raises:
        UserError: a field or enum value is unknown, or newer than the release; a value has the wrong type.
    """
    if data != {}:  # usually there is nothing, and no protobuf to import for it
        _check_message(data, _module().ModelConfig.DESCRIPTOR, release, place)


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
        return text_format.Parse(text, _module().ModelConfig())
    except text_format.ParseError as error:
        line, column = error.GetLine(), error.GetColumn()
        where = f"{place}:{line}:{column}" if line is not None else place
        words = str(error).partition(" : ")[2] or str(error)
        raise UserError(
            f"{where}: {words}",
            mend="see model_config.proto of triton-inference-server/common for the fields and their spelling",
        ) from error


def to_json(message: Message) -> dict[str, Json]:
    """The JSON data of a message: the fields that are set, 64-bit integers as numbers."""
    return _message_json(message)


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


def _check_message(data: Json, descriptor: Descriptor, release: str, place: str) -> None:
    if not isinstance(data, dict):
        raise _wrong(place, f"a mapping of {descriptor.name}", data)
    fields = descriptor.fields_by_name
    for name, value in data.items():
        here = f"{place}.{name}"
        if name not in fields:
            raise UserError(
                f"{here}: Triton's {descriptor.name} has no field {name!r}; it has: {', '.join(fields)}",
                mend=_did_you_mean(name, fields, "leave it out"),
            )
        _check_release(fields[name].full_name, release, here)
        _check_field(value, fields[name], release, here)
    for oneof in descriptor.oneofs:
        chosen = [field.name for field in oneof.fields if field.name in data]
        if len(chosen) > 1:
            raise UserError(f"{place}: {' and '.join(chosen)} exclude each other", mend=f"keep one of {oneof.name}")


def _check_field(value: Json, field: Descriptor, release: str, place: str) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        if not isinstance(value, dict):
            raise _wrong(place, "a mapping", value)
        for key, item in value.items():
            _check_key(key, field.message_type.fields_by_name["key"], place)
            _check_value(item, field.message_type.fields_by_name["value"], release, f"{place}.{key}")
    elif _is_repeated(field):
        if not isinstance(value, list | tuple):
            raise _wrong(place, "a list", value)
        for index, item in enumerate(value):
            _check_value(item, field, release, f"{place}[{index}]")
    else:
        _check_value(value, field, release, place)


def _check_key(key: Json, field: Descriptor, place: str) -> None:
    if field.cpp_type in _RANGES and not str(key).isdecimal():
        raise _wrong(place, "a mapping whose keys are whole numbers", key)


def _check_value(value: Json, field: Descriptor, release: str, place: str) -> None:
    kind = field.cpp_type
    if kind == _MESSAGE:
        _check_message(value, field.message_type, release, place)
    elif kind == _ENUM:
        _check_enum(value, field.enum_type, release, place)
    elif kind in _RANGES:
        low, high = _RANGES[kind]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _wrong(place, f"a whole number from {low} to {high}", value)
    elif kind in _FLOATS:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise _wrong(place, "a number", value)
    elif not isinstance(value, bool if kind == _BOOL else str):
        raise _wrong(place, "true or false" if kind == _BOOL else "a string", value)


def _check_enum(value: Json, descriptor: Descriptor, release: str, place: str) -> None:
    allowed = [item.name for item in descriptor.values]
    if value not in allowed:
        raise UserError(
            f"{place}: {value!r} is not a value of Triton's {descriptor.name}; allowed: {', '.join(allowed)}",
            mend=_did_you_mean(str(value).upper(), allowed, "take one of them"),
        )
    _check_release(f"{descriptor.full_name}.{value}", release, place)


def _check_release(full_name: str, release: str, place: str) -> None:
    name = full_name.removeprefix("inference.")
    if not knows(release, name):
        raise UserError(
            f"{place}: Triton {release} does not know it: {name} is there since {FIRST_RELEASE[name]}",
            mend=f"leave it out, or set the target's triton to {FIRST_RELEASE[name]} or later",
        )


def _message_json(message: Message) -> dict[str, Json]:
    return {field.name: _field_json(value, field) for field, value in message.ListFields()}


def _field_json(value: Message, field: Descriptor) -> Json:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        of = field.message_type.fields_by_name["value"]
        return {str(key): _value_json(value[key], of) for key in sorted(value)}
    if _is_repeated(field):
        return [_value_json(item, field) for item in value]
    return _value_json(value, field)


def _value_json(value: Message, field: Descriptor) -> Json:
    if field.cpp_type == _MESSAGE:
        return _message_json(value)
    if field.cpp_type == _ENUM:
        return field.enum_type.values_by_number[value].name
    return value


def _is_repeated(field: Descriptor) -> bool:
    # protobuf 6.31 brought is_repeated and deprecates label, which 5.29 needs.
    known = getattr(field, "is_repeated", None)
    return bool(field.label == field.LABEL_REPEATED if known is None else known)


def _wrong(place: str, wanted: str, value: Json) -> UserError:
    return UserError(f"{place}: must be {wanted}, got {value!r}")


def _did_you_mean(name: str, choices: Iterable[str], otherwise: str) -> str:
    near = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else otherwise
