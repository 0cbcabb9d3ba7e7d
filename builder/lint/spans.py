"""Where the fields of a text in protobuf's text format begin and end: for edits that leave the rest byte for byte."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN: Final = re.compile(
    r"""(?P<blank>[\s,;]+|\#[^\n]*)|(?P<name>[A-Za-z_][A-Za-z0-9_.]*)|(?P<open>[{<])|(?P<close>[}>])|(?P<colon>:)"""
    r"""|(?P<left>\[)|(?P<right>\])|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<other>[^\s{}<>:,;\[\]"'#]+|.)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Span:
    """One field.

    Args:
        path: names from the root, without indexes: ``("ensemble_scheduling", "step", "model_name")``.
        parents: begin of each message around it: fields of one message have the same.
        begin: of its name, in characters of the text.
        value: begin of its value.
        end: of its value.
    """

    path: tuple[str, ...]
    parents: tuple[int, ...]
    begin: int
    value: int
    end: int


def spans(text: str) -> tuple[Span, ...]:
    """All fields of a text that can be parsed, inner ones first; the values of a list are one span."""
    return tuple(_Reader(text).fields((), ()))


class _Reader:
    def __init__(self, text: str) -> None:
        self._tokens = [token for token in _TOKEN.finditer(text) if token.lastgroup != "blank"]
        self._at = 0

    def fields(self, path: tuple[str, ...], parents: tuple[int, ...]) -> Iterator[Span]:
        """The fields up to the end of the message that is open."""
        while (token := self._next()) is not None and token.lastgroup != "close":
            if token.lastgroup == "name":
                yield from self._field((*path, token[0]), parents, token.start())

    def _field(self, path: tuple[str, ...], parents: tuple[int, ...], begin: int) -> Iterator[Span]:
        token = self._next()
        if token is not None and token.lastgroup == "colon":
            token = self._next()
        if token is None:
            return
        value = token.start()
        if token.lastgroup == "open":
            yield from self.fields(path, (*parents, value))
        elif token.lastgroup == "left":
            while (token := self._next()) is not None and token.lastgroup != "right":
                if token.lastgroup == "open":
                    yield from self.fields(path, (*parents, token.start()))
        else:
            while self._kind() == "text" and token.lastgroup == "text":  # neighbouring strings are one value
                self._at += 1
        yield Span(path, parents, begin, value, self._tokens[self._at - 1].end())

    def _kind(self) -> str | None:
        return self._tokens[self._at].lastgroup if self._at < len(self._tokens) else None

    def _next(self) -> re.Match[str] | None:
        if self._at >= len(self._tokens):
            return None
        self._at += 1
        return self._tokens[self._at - 1]
