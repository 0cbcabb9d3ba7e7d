"""Mutations of a config as text: its spelling, and the names that tie tensors together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.lint.repositories import configs

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.lint.repositories import Base


def in_text(base: Base, dice: random.Random, prefix: str) -> str:
    """Breaks the spelling of a config, or writes it another way."""
    if not (paths := configs(base)):
        return ""
    path = dice.choice(paths)
    text = str(base.files[path])
    way = dice.choice(TEXT_WAYS)
    new = way(text, dice)
    if new == text:
        return ""
    base.files[path] = new
    return f"{path.removeprefix(prefix)} {way.__name__}"


def _replace(text: str, pattern: str, dice: random.Random, by: Callable[[str], str]) -> str:
    found = list(re.finditer(pattern, text))
    if not found:
        return text
    one = dice.choice(found)
    return text[: one.start()] + by(one[0]) + text[one.end() :]


def lower_enum(text: str, dice: random.Random) -> str:
    return _replace(text, r"\b(TYPE|KIND|FORMAT|CONTROL|BATCH)_[A-Z0-9_]+", dice, str.lower)


def enum_number(text: str, dice: random.Random) -> str:
    return _replace(text, r"\b(TYPE|KIND|FORMAT)_[A-Z0-9_]+", dice, lambda _: dice.choice(("1", "2", "11", "99", "-1")))


def quoted_enum(text: str, dice: random.Random) -> str:
    return _replace(text, r"\b(TYPE|KIND)_[A-Z0-9_]+", dice, lambda word: f'"{word}"')


def misspelt_field(text: str, dice: random.Random) -> str:
    return _replace(
        text, r"\b[a-z_]+(?=\s*[:{\[])", dice, lambda word: word[:-1] if dice.random() < 0.5 else f"{word}s"
    )


def upper_field(text: str, dice: random.Random) -> str:
    return _replace(text, r"\b[a-z_]+(?=\s*[:{\[])", dice, str.upper)


def no_brace(text: str, dice: random.Random) -> str:
    return _replace(text, r"[{}\[\]]", dice, lambda _: "")


def angle_brackets(text: str, dice: random.Random) -> str:
    return _replace(text, r"\{[^{}]*\}", dice, lambda word: f"<{word[1:-1]}>")


def no_quote(text: str, dice: random.Random) -> str:
    return _replace(text, r"[\"']", dice, lambda _: "")


def other_quotes(text: str, dice: random.Random) -> str:
    return _replace(text, r'"[^"\n]*"', dice, lambda word: f"'{word[1:-1]}'")


def split_string(text: str, dice: random.Random) -> str:
    return _replace(text, r'"[^"\n]+"', dice, lambda word: f'"{word[1:2]}" "{word[2:-1]}"')


def escaped(text: str, dice: random.Random) -> str:
    return _replace(text, r'"[^"\n]+"', dice, lambda word: f'"\\x{ord(word[1]):02x}{word[2:-1]}"')


def bad_escape(text: str, dice: random.Random) -> str:
    return _replace(text, r'"[^"\n]+"', dice, lambda word: dice.choice((f'"\\q{word[1:]}', f'"\\xff{word[1:]}')))


def no_colon(text: str, dice: random.Random) -> str:
    return _replace(text, r":", dice, lambda _: "")


def more_colon(text: str, dice: random.Random) -> str:
    return _replace(text, r"(?<=[a-z]) *(?=\{)", dice, lambda _: ":")


def separator(text: str, dice: random.Random) -> str:
    return _replace(text, r"(?<=[\]\"}\d]) ", dice, lambda _: dice.choice((", ", "; ", ",, ", " ; ; ")))


def trailing_comma(text: str, dice: random.Random) -> str:
    return _replace(text, r" \]", dice, lambda _: ", ]")


def other_number(text: str, dice: random.Random) -> str:
    new = (
        "1.0",
        "1e3",
        "0x8",
        "010",
        "1f",
        "99999999999",
        "- 1",
        "-0",
        "+1",
        '"1"',
        "true",
        "1_000",
        "0b1",
        "08",
        "0o7",
    )
    return _replace(text, r"(?<=[ :\[])-?\d+\b", dice, lambda _: dice.choice(new))


def other_bool(text: str, dice: random.Random) -> str:
    new = ("True", "t", "1", "0", "F", "false", "TRUE", "yes", "2", '"true"', "f", "False", "-1")
    return _replace(text, r"\b(true|false)\b", dice, lambda _: dice.choice(new))


def comment(text: str, dice: random.Random) -> str:
    return _replace(
        text, r"\n", dice, lambda _: dice.choice((" # said\n", " // said\n", "\n#\n", "\r\n", "\t\n", "\f\n"))
    )


def unknown_field(text: str, dice: random.Random) -> str:
    more = (
        "nonsense: 1",
        "max_batch_sizes: 2",
        "model_metrics { }",
        "[a.b] { }",
        "nonsense { a: 1 }",
        "dims: 3",
        "0: 1",
    )
    return f"{text}{dice.choice(more)}\n"


def twice(text: str, dice: random.Random) -> str:
    lines = text.split("\n")
    line = dice.choice(lines)
    return f"{text}{line}\n" if line.strip() else text


def second_scheduler(text: str, dice: random.Random) -> str:
    more = ("dynamic_batching { }", "sequence_batching { }", "ensemble_scheduling { }")
    return f"{text}{dice.choice(more)}\n"


def cut(text: str, dice: random.Random) -> str:
    return text[: dice.randrange(len(text) + 1)]


def one_character(text: str, dice: random.Random) -> str:
    if not text:
        return text
    index = dice.randrange(len(text))
    return (
        text[:index]
        + dice.choice(("", "x", "é", "\0", "{", '"', " ", "\\", "\ufeff", "$", "_", "."))
        + text[index + 1 :]
    )


def packed(text: str, dice: random.Random) -> str:
    return _replace(text, r"\[ *(-?\d+) *\]", dice, lambda word: word[1:-1])


def empty_list(text: str, dice: random.Random) -> str:
    return _replace(text, r"\[[^\[\]{}]*\]", dice, lambda _: dice.choice(("[]", "[ , ]", "[[1]]")))


TEXT_WAYS = (
    lower_enum, enum_number, quoted_enum, misspelt_field, upper_field, no_brace, angle_brackets, no_quote,
    other_quotes, split_string, escaped, bad_escape, no_colon, more_colon, separator, trailing_comma, other_number,
    other_number, other_bool, comment, unknown_field, twice, second_scheduler, cut, one_character, one_character,
    packed, empty_list,
)  # fmt: skip


def in_links(base: Base, dice: random.Random, prefix: str) -> str:
    """Changes what the links of an ensemble, or the tensors of a model, say to one another."""
    path = dice.choice(configs(base) or [""])
    text = str(base.files.get(path, ""))
    words = re.findall(r'(?:value|key|name|model_name): "([^"]+)"', text)
    if len(words) < 2:
        return ""
    old, new = dice.choice(words), dice.choice([*words, "X"])
    if old == new:
        return ""
    base.files[path] = _replace(text, f'"{re.escape(old)}"', dice, lambda _: f'"{new}"')
    return f"{path.removeprefix(prefix)} {new!r} for {old!r}"
