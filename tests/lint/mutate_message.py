"""Mutations of a config as a message: fields dropped, doubled, changed, added."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from builder.tools import triton_check, triton_proto
from tests.lint.repositories import configs

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from tests.lint.repositories import Base

# What depends on the server's machine and not on the files: installed backends and agents, GPUs elsewhere.
NOT_FOR_MUTANTS = {"model_repository_agents", "runtime", "cc_model_filenames", "model_operations", "host_policy"}
INTEGERS = (-2, -1, 0, 1, 2, 3, 4, 8, 9, 16)
BACKENDS = ("", "python", "onnxruntime", "pyhton", "Python", "ensemble")
PLATFORMS = ("", "ensemble", "onnxruntime_onnx", "tensorrt_plan", "python", "pytorch_libtorch", "Ensemble")
PARAMETERS = ("", "yes", "no", "maybe", "env", "$$TRITON_MODEL_DIRECTORY/1", "$$TRITON_MODEL_DIRECTORY/env/bin/..")
FILES = ("", "model.py", "other.py", "model.onnx", "missing.txt", "labels.txt", "text", "state")


def in_message(base: Base, dice: random.Random, prefix: str) -> str:
    """Drops, doubles, changes or adds one field of a config."""
    if not (paths := configs(base)):
        return ""
    path = dice.choice(paths)
    try:
        message = triton_proto.parse_text(str(base.files[path]), place="")
    except Exception:  # a mutation before this one broke it
        return ""
    words = vocabulary(base, message, prefix)
    what = dice.choice((drop, drop, double, change, change, change, extend, extend))(message, dice, words, base.fixed)
    if not what:
        return ""
    base.files[path] = triton_proto.to_text(message)
    return f"{path.removeprefix(prefix)} {what}"


def vocabulary(base: Base, message: Any, prefix: str) -> list[str]:
    """Names that are worth putting somewhere: tensors, steps' tensors, models."""
    words = [item.name for item in (*message.input, *message.output)]
    for one in message.ensemble_scheduling.step:
        for mapped in (one.input_map, one.output_map):  # sorted: the order of a map is chance
            words += [*sorted(mapped), *sorted(mapped.values())]
    words += sorted({path.split("/")[0] for path in base.files})
    return [*words, "X", "", f"{prefix}none"]


def sites(message: Any, place: str = "") -> Iterator[tuple[Any, Any, str]]:
    """(message, field, place) of every field that is set, at any depth; map entries are left whole."""
    for field, value in message.ListFields():
        yield message, field, f"{place}{field.name}"
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key in sorted(value):
                    yield from sites(value[key], f"{place}{field.name}[{key}].")
        elif repeated(field):
            for index, item in enumerate(value):
                yield from sites(item, f"{place}{field.name}[{index}].")
        else:
            yield from sites(value, f"{place}{field.name}.")


def pick(message: Any, dice: random.Random, fixed: tuple[str, ...]) -> tuple[Any, Any, str] | None:
    found = [
        site
        for site in sites(message)
        if site[1].name not in NOT_FOR_MUTANTS and (not fixed or re.split(r"[.\[]", site[2])[0] in fixed)
    ]
    return dice.choice(found) if found else None


def repeated(field: Any) -> bool:
    return bool(triton_check.is_repeated(field))


def is_map(field: Any) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def drop(message: Any, dice: random.Random, _words: list[str], fixed: tuple[str, ...]) -> str:
    """Drops a field, or one of its values."""
    if (site := pick(message, dice, fixed)) is None:
        return ""
    owner, field, place = site
    value = getattr(owner, field.name)
    if is_map(field):
        del value[dice.choice(sorted(value))]
    elif repeated(field) and dice.random() < 0.7:
        del value[dice.randrange(len(value))]
    else:
        owner.ClearField(field.name)
    return f"drop {place}"


def double(message: Any, dice: random.Random, _words: list[str], fixed: tuple[str, ...]) -> str:
    """Repeats one of the values of a repeated field."""
    if (site := pick(message, dice, fixed)) is None or not repeated(site[1]) or is_map(site[1]):
        return ""
    owner, field, place = site
    values = getattr(owner, field.name)
    values.append(values[dice.randrange(len(values))])
    return f"double {place}"


def change(message: Any, dice: random.Random, words: list[str], fixed: tuple[str, ...]) -> str:
    """Gives a value that is set another one."""
    if (site := pick(message, dice, fixed)) is None:
        return ""
    owner, field, place = site
    value = getattr(owner, field.name)
    if is_map(field):
        entry = field.message_type.fields_by_name["value"]
        if entry.message_type is not None:
            return ""
        if entry.type == entry.TYPE_STRING and dice.random() < 0.5:
            key = dice.choice(sorted(value))
            value[key] = dice.choice(words)
            return f"map {place}[{key}] to {value[key]!r}"
        key = dice.choice(sorted(value))
        new = dice.choice(words) if isinstance(key, str) else dice.choice((0, 1, 2, 5))
        value[new] = value.pop(key)
        return f"rename {place}[{key}] to {new!r}"
    if field.message_type is not None:
        return ""
    new = scalar(field, dice, words)
    if repeated(field):
        value[dice.randrange(len(value))] = new
    else:
        setattr(owner, field.name, new)
    return f"set {place} to {new!r}"


def extend(message: Any, dice: random.Random, words: list[str], fixed: tuple[str, ...]) -> str:
    """Sets a field that is not set."""
    owners = [(message, "")] + [
        (value if not repeated(field) else value[dice.randrange(len(value))], f"{place}.")
        for owner, field, place in sites(message)
        if field.message_type is not None and not is_map(field) and (value := getattr(owner, field.name)) is not None
    ]
    owner, place = dice.choice(owners)
    choices = [
        field
        for field in owner.DESCRIPTOR.fields
        if field.name not in NOT_FOR_MUTANTS and (not fixed or (place or field.name).split(".")[0] in fixed)
    ]
    if not choices:
        return ""
    field = dice.choice(choices)
    fill(owner, field, dice, words)
    return f"add {place}{field.name}"


def fill(owner: Any, field: Any, dice: random.Random, words: list[str], depth: int = 0) -> None:
    """Sets a field to something random of its type."""
    if is_map(field):
        key = scalar(field.message_type.fields_by_name["key"], dice, words)
        value = field.message_type.fields_by_name["value"]
        if value.message_type is None:
            getattr(owner, field.name)[key] = scalar(value, dice, words)
        else:
            populate(getattr(owner, field.name)[key], dice, words, depth)
    elif field.message_type is not None:
        if repeated(field):
            populate(getattr(owner, field.name).add(), dice, words, depth)
        else:
            getattr(owner, field.name).SetInParent()
            populate(getattr(owner, field.name), dice, words, depth)
    elif repeated(field):
        getattr(owner, field.name).append(scalar(field, dice, words))
    else:
        setattr(owner, field.name, scalar(field, dice, words))


def populate(message: Any, dice: random.Random, words: list[str], depth: int) -> None:
    if depth > 3:
        return
    for field in message.DESCRIPTOR.fields:
        if field.name not in NOT_FOR_MUTANTS and dice.random() < 0.45:
            fill(message, field, dice, words, depth + 1)


def scalar(field: Any, dice: random.Random, words: list[str]) -> Any:
    """A value of the field's type, near to what is right."""
    if field.enum_type is not None:
        return dice.choice([value.number for value in field.enum_type.values])
    if field.type == field.TYPE_STRING:
        if field.name in {"backend", "platform"}:
            return dice.choice(BACKENDS if field.name == "backend" else PLATFORMS)
        if field.containing_type.name == "ModelParameter":
            return dice.choice(PARAMETERS)
        return dice.choice(FILES if "file" in field.name else words)
    if field.type == field.TYPE_BOOL:
        return dice.random() < 0.5
    if field.cpp_type in {field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE}:
        return dice.choice((-0.5, 0.0, 0.5, 1.0, 1.5))
    number = dice.choice(INTEGERS)
    if field.name in {"count", "batch_size"}:  # every instance is a process
        number = min(number, 2)
    if field.cpp_type in {field.CPPTYPE_UINT32, field.CPPTYPE_UINT64}:
        return abs(number)
    return number
