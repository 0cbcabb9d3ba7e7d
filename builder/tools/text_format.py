r"""protobuf's text format as Triton's server reads it: where C++'s parser differs from Python's.

Both were given some 1,300 spellings of numbers, strings and messages (the server is C++; what is parsed here is
Python's). C++ takes fewer: no ``1_000``, ``0o7``, ``0b1``, ``+1``, ``0.5ff``, ``\q``, no-break spaces. And it takes
more: ``- 1``, booleans as ``0x1``, enum values as ``010``, strings that are not UTF-8.
Source: ``google/protobuf/io/tokenizer.cc`` and ``google/protobuf/text_format.cc`` of protobuf.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUSPECT: Final = re.compile(r"[\\+\0]|\d_|-[\s#0]|[\d.][A-Za-z]|[^\x01-\x7f]|(?i:inff|infinityf|nanf)\b")
"""Without any of these, both parsers read a text alike."""

_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t\n\r\v\f]+|\#[^\n]*)"""
    r"""|(?P<text>"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*')"""
    r"""|(?P<number>\.?[0-9](?:(?<=[0-9.][eE])[+-]|[\w.])*)"""
    r"""|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"""
    r"""|(?P<other>.)""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*|([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[fF]?")
_ESCAPE: Final = re.compile(
    r"\\(?:([abfnrtv\\?'\"])|([0-7]{1,3})|x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U(00[01][0-9a-fA-F]{5})|(.?))",
    re.DOTALL,
)
_SIMPLE: Final = dict(zip("abfnrtv\\?'\"", (bytes([code]) for code in b"\a\b\f\n\r\t\v\\?'\""), strict=True))
_PUNCTUATION: Final = "{}[]<>:;,-/.()"
_NO_FLOATS: Final = frozenset({"inff", "infinityf", "nanf"})


class UnreadableError(ValueError):
    """The server cannot read the text.

    Args:
        line: the line, from 1.
        message: what is wrong in it.
    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def for_python(text: str, unsigned: frozenset[tuple[str, str]]) -> str:
    """The same text for Python's parser: it takes it where the server does, and keeps every line where it is.

    Args:
        text: the text.
        unsigned: the fields that hold unsigned numbers, which may not be ``-0``: each with the field around it
            (``""`` for none), as ``count`` is unsigned in ``model_warmup`` and signed in ``instance_group``.

    Raises:
        UnreadableError: the server does not take it, but Python's parser would.
    """
    return "".join(_pieces(text, unsigned)) if _SUSPECT.search(text) else text


def as_decimal(text: str, line: int, column: int) -> str | None:
    """The text with the octal or hexadecimal number at a place written as a decimal one; None where there is none.

    Args:
        text: the text.
        line: from 1.
        column: from 1.
    """
    lines = text.split("\n")
    row = lines[line - 1]
    found = re.compile(r"-?0([xX][0-9a-fA-F]+|[0-7]+)\b").match(row, column - 1)
    if found is None:
        return None
    digits = found[1]
    number = int(digits[1:], 16) if digits[0] in "xX" else int(digits, 8)
    sign = "-" if found[0][0] == "-" else ""
    lines[line - 1] = f"{row[: found.start()]}{sign}{number}{row[found.end() :]}"
    return "\n".join(lines)


def _pieces(text: str, unsigned: frozenset[tuple[str, str]]) -> Iterator[str]:
    line, sign, field = 1, False, ""
    around = [""]  # the fields whose messages are open
    for token in _TOKEN.finditer(text):
        kind, word = token.lastgroup, token[0]
        _check(kind, word, line)
        if kind == "number" and sign and (around[-1], field) in unsigned:
            raise UnreadableError(line, f"{field} is a negative number; allowed: 0 or more")
        if kind == "space" and sign:
            yield "\n" * word.count("\n")
        elif word == "-":
            yield "- " if sign else ""
        else:
            # A minus waits for its number: there may be spaces, lines and comments between them.
            yield ("-" if sign else "") + (_string(word, line) if kind == "text" else word)
        line += word.count("\n")
        sign = word == "-" or (sign and kind == "space")
        field = word if kind == "name" else field
        if word in "{<":
            around.append(field)
        elif word in "}>" and len(around) > 1:
            field = around.pop()  # what comes next may be the next of a list
    yield "-" if sign else ""


def _check(kind: str | None, word: str, line: int) -> None:
    if kind == "number" and not _NUMBER.fullmatch(word):
        raise UnreadableError(line, f"{word!r} is no number; allowed: decimal, 0x… and 0…, without other signs in it")
    if kind == "name" and word.lower() in _NO_FLOATS:
        raise UnreadableError(line, f"{word!r} is no number")
    if kind == "other" and word not in _PUNCTUATION and word not in "\"'":
        raise UnreadableError(line, f"{word!r} cannot stand outside of a string")


def _string(word: str, line: int) -> str:
    """A string literal that Python reads: bytes that are no UTF-8, which the server takes, become U+FFFD."""
    if "\0" in word:
        raise UnreadableError(line, "a string holds the character 0; write \\0")
    if "\\" not in word:
        return word
    inner = word[1:-1]
    content, position = bytearray(), 0
    for escape in _ESCAPE.finditer(inner):
        content += inner[position : escape.start()].encode()
        content += _escaped(escape, line)
        position = escape.end()
    content += inner[position:].encode()
    return '"' + "".join(f"\\{byte:03o}" for byte in content.decode(errors="replace").encode()) + '"'


def _escaped(escape: re.Match[str], line: int) -> bytes:
    simple, octal, byte, short, long, wrong = escape.groups()
    if wrong is not None:
        raise UnreadableError(line, f"\\{wrong} is no escape sequence")
    if simple is not None:
        return _SIMPLE[simple]
    if octal is not None:
        return bytes([int(octal, 8) & 0xFF])
    if byte is not None:
        return bytes([int(byte, 16)])
    code = int(short or long, 16)
    return chr(min(code, sys.maxunicode)).encode("utf-8", "surrogatepass")
