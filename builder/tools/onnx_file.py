"""Where the data of an ONNX file's initializers stands, read and changed in the file's bytes.

To read a whole graph takes a library that takes longer to import than everything else that is done to it here.
Format: https://protobuf.dev/programming-guides/encoding; field numbers: ``onnx.proto3``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

UNBOUND: Final = "unbound"
"""Location of an initializer whose data stands in a checkpoint that is not known yet."""

_GRAPH: Final = 7  # of ModelProto
_INITIALIZER: Final = 5  # of GraphProto
_DIMS, _DATA_TYPE, _NAME, _EXTERNAL_DATA = 1, 2, 8, 13  # of TensorProto
_KEY, _VALUE = 1, 2  # of StringStringEntryProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_ELEMENT_BYTES: Final = {1: 4, 7: 8}  # TensorProto.DataType: FLOAT, INT64


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes of a file beside the model."""

    location: str  # the file's name
    offset: int
    length: int


def point(model: bytes, places: Mapping[str, Place]) -> bytes:
    """The same model, with the data of some initializers elsewhere; all else keeps its bytes.

    Args:
        model: content of an ONNX file.
        places: of initializers whose data is external already, by name.

    Raises:
        InternalError: there is no such initializer, or its data has another length.
    """
    left = dict(places)

    def pointed(tensor: bytes) -> bytes:
        place = left.pop(_name(tensor), None)
        return tensor if place is None else _pointed(tensor, place)

    changed = _change(model, _GRAPH, lambda graph: _change(graph, _INITIALIZER, pointed))
    if left:
        raise InternalError(f"the graph has no initializer {', '.join(left)}")
    return changed


def unbound(model: bytes) -> tuple[str, ...]:
    """Names of the initializers that have no data yet."""
    tensors = (
        tensor.value
        for graph in _fields(model)
        if graph.number == _GRAPH
        for tensor in _fields(graph.value)
        if tensor.number == _INITIALIZER
    )
    location = _entry("location", UNBOUND)
    return tuple(
        _name(tensor)
        for tensor in tensors
        if any(field.number == _EXTERNAL_DATA and field.value == location for field in _fields(tensor))
    )


@dataclass(frozen=True, slots=True)
class _Field:
    number: int
    kind: int
    value: bytes  # of a length-delimited field; of others, as it is encoded
    whole: bytes  # with key and length


def _fields(message: bytes) -> Iterator[_Field]:
    at = 0
    while at < len(message):
        begin = at
        key, at = _read_varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _BYTES:
            length, at = _read_varint(message, at)
            first, at = at, at + length
        else:
            first = at
            at = _read_varint(message, at)[1] if kind == _VARINT else at + {_FIXED64: 8, _FIXED32: 4}[kind]
        yield _Field(number, kind, message[first:at], message[begin:at])


def _change(message: bytes, number: int, change: Callable[[bytes], bytes]) -> bytes:
    """The message with the fields of a number, themselves messages, changed."""
    parts = (
        _field(number, change(field.value)) if field.number == number else field.whole for field in _fields(message)
    )
    return b"".join(parts)


def _pointed(tensor: bytes, place: Place) -> bytes:
    fields = list(_fields(tensor))
    length = _length(fields)
    if length != place.length:
        raise InternalError(
            f"initializer {_name(tensor)}: {length} bytes, but {place.length} stand in {place.location}"
        )
    facts = {"location": place.location, "offset": str(place.offset), "length": str(place.length)}
    entries = b"".join(_field(_EXTERNAL_DATA, _entry(key, value)) for key, value in facts.items())
    at = next(index for index, field in enumerate(fields) if field.number == _EXTERNAL_DATA)
    rest = [field.whole for field in fields[at:] if field.number != _EXTERNAL_DATA]
    return b"".join([*(field.whole for field in fields[:at]), entries, *rest])


def _length(tensor: list[_Field]) -> int:
    """Bytes of a tensor's data."""
    dims: list[int] = []
    element = 0
    for field in tensor:
        if field.number == _DIMS:
            dims += _varints(field.value)
        elif field.number == _DATA_TYPE:
            element = _ELEMENT_BYTES[_varints(field.value)[0]]
    return math.prod(dims) * element


def _name(tensor: bytes) -> str:
    return next((field.value.decode() for field in _fields(tensor) if field.number == _NAME), "")


def _entry(key: str, value: str) -> bytes:
    return _field(_KEY, key.encode()) + _field(_VALUE, value.encode())


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _varints(packed: bytes) -> list[int]:
    numbers, at = [], 0
    while at < len(packed):
        number, at = _read_varint(packed, at)
        numbers.append(number)
    return numbers


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """A number, and where the next field begins."""
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def _varint(number: int) -> bytes:
    made = bytearray()
    while number >= 0x80:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)
