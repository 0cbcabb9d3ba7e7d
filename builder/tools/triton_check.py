"""JSON data against the protobuf's own descriptors of Triton's ModelConfig: every problem, each with its path."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from builder.tools.triton_fields import FIRST_RELEASE, knows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.artifacts import Json

Descriptor: TypeAlias = Any
"""What protobuf knows of a message, a field or an enum."""

Keys: TypeAlias = "tuple[str | int, ...]"
"""Keys and indexes from the root to a value."""

# google.protobuf.descriptor.FieldDescriptor.CPPTYPE_*, as the generated descriptors number them.
RANGES: Final = {
    1: (-(2**31), 2**31 - 1),  # int32
    2: (-(2**63), 2**63 - 1),  # int64
    3: (0, 2**32 - 1),  # uint32
    4: (0, 2**64 - 1),  # uint64
}
FLOATS: Final = {5: 1.7976931348623157e308, 6: 3.4028234663852886e38}  # double, float → the largest number
BOOL: Final = 7
ENUM: Final = 8
STRING: Final = 9
MESSAGE: Final = 10


_WHOLE: Final = re.compile(r"[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Misfit:
    """One place where data is not what the descriptors say."""

    path: Keys
    message: str
    mend: str = ""
    at_key: bool = False  # the key itself is wrong, and not its value


def misfits(data: Json, descriptor: Descriptor, release: str, path: Keys = ()) -> Iterator[Misfit]:
    """All places where data is not a message that the servers of a release can read.

    Args:
        data: JSON data with Triton's own field names.
        descriptor: of the message.
        release: the Triton release that will read it, ``25.09``.
        path: where the data stands.
    """
    if not isinstance(data, dict):
        yield _wrong(path, f"a mapping of {descriptor.name}", data)
        return
    fields = descriptor.fields_by_name
    for name, value in data.items():
        here = (*path, name)
        if name not in fields:
            message = f"Triton's {descriptor.name} has no field {name!r}; it has: {', '.join(fields)}"
            yield Misfit(here, message, _did_you_mean(str(name), fields, "leave it out"), at_key=True)
        elif too_new := list(_release(fields[name].full_name, release, here, at_key=True)):
            yield from too_new
        else:
            yield from _field(value, fields[name], release, here)
    for oneof in descriptor.oneofs:
        chosen = [field.name for field in oneof.fields if field.name in data]
        if len(chosen) > 1:
            yield Misfit(path, f"{' and '.join(chosen)} exclude each other", f"keep one of {oneof.name}")


def is_repeated(field: Descriptor) -> bool:
    """Whether a field holds a list; maps do, too."""
    # protobuf 6.31 brought is_repeated and deprecates label, which 5.29 needs.
    known = getattr(field, "is_repeated", None)
    return bool(field.label == field.LABEL_REPEATED if known is None else known)


def is_map(field: Descriptor) -> bool:
    """Whether a field holds a mapping of free keys."""
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _field(value: Json, field: Descriptor, release: str, path: Keys) -> Iterator[Misfit]:
    if is_map(field):
        if not isinstance(value, dict):
            yield _wrong(path, "a mapping", value)
            return
        for key, item in value.items():
            yield from _key(key, field.message_type.fields_by_name["key"], path)
            yield from _value(item, field.message_type.fields_by_name["value"], release, (*path, key))
    elif is_repeated(field):
        if not isinstance(value, list | tuple):
            yield _wrong(path, "a list", value)
            return
        for index, item in enumerate(value):
            yield from _value(item, field, release, (*path, index))
    else:
        yield from _value(value, field, release, path)


def _key(key: Json, field: Descriptor, path: Keys) -> Iterator[Misfit]:
    if field.cpp_type in RANGES:
        low, high = RANGES[field.cpp_type]
        if not _WHOLE.fullmatch(str(key)) or not low <= int(key) <= high:
            yield _wrong(path, f"a mapping whose keys are whole numbers from {low} to {high}", key)


def _value(value: Json, field: Descriptor, release: str, path: Keys) -> Iterator[Misfit]:
    kind = field.cpp_type
    if kind == MESSAGE:
        yield from misfits(value, field.message_type, release, path)
    elif kind == ENUM:
        yield from _enum(value, field.enum_type, release, path)
    elif kind in RANGES:
        low, high = RANGES[kind]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            yield _wrong(path, f"a whole number from {low} to {high}", value)
    elif kind in FLOATS:
        if not isinstance(value, int | float) or isinstance(value, bool):
            yield _wrong(path, "a number", value)
        elif abs(value) > FLOATS[kind]:
            yield _wrong(path, f"a number within ±{FLOATS[kind]:.8g}", value)
    elif not isinstance(value, bool if kind == BOOL else str):
        yield _wrong(path, "true or false" if kind == BOOL else "a string", value)


def _enum(value: Json, descriptor: Descriptor, release: str, path: Keys) -> Iterator[Misfit]:
    allowed = [item.name for item in descriptor.values]
    if value not in allowed:
        message = f"{value!r} is not a value of Triton's {descriptor.name}; allowed: {', '.join(allowed)}"
        yield Misfit(path, message, _did_you_mean(str(value).upper(), allowed, "take one of them"))
    else:
        yield from _release(f"{descriptor.full_name}.{value}", release, path)


def _release(full_name: str, release: str, path: Keys, *, at_key: bool = False) -> Iterator[Misfit]:
    name = full_name.removeprefix("inference.")
    if not knows(release, name):
        first = FIRST_RELEASE[name]
        message = f"Triton {release} does not know it: {name} is there since {first}"
        yield Misfit(path, message, f"leave it out, or set the target's triton to {first} or later", at_key)


def _wrong(path: Keys, wanted: str, value: Json) -> Misfit:
    return Misfit(path, f"must be {wanted}, got {value!r}")


def _did_you_mean(name: str, choices: Iterable[str], otherwise: str) -> str:
    near = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else otherwise
