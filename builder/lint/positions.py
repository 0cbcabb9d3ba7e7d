"""Where each field of a ``config.pbtxt`` stands. Read only when there is something to report."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_ERROR: Final = re.compile(r"^(?::(\d+):\d+)?:? ?(.*)$", re.DOTALL)

_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t\r\f\v]+|\#[^\n]*)|(?P<line>\n)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<open>[{<])|(?P<close>[}>])"""
    r"""|(?P<colon>:)|(?P<comma>[,;])|(?P<left>\[)|(?P<right>\])"""
    r"""|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<other>[^\s{}<>:,;\[\]"'#]+|.)""",
    re.VERBOSE,
)


def split_error(message: str) -> tuple[int | None, str]:
    """Line and words of an error of :func:`builder.tools.triton_proto.parse_text` that was given no place."""
    found = _ERROR.match(message)
    assert found is not None
    return (int(found[1]) if found[1] else None), found[2]


def mentions(text: str, word: str) -> bool:
    """Whether a text in protobuf's text format has a word, outside of comments and strings."""
    return any(token.lastgroup == "name" and token[0] == word for token in _TOKEN.finditer(text))


def parent(field_path: str) -> str:
    """``input[0].dims`` → ``input[0]`` → ``input`` → empty."""
    cut = max(field_path.rfind("."), field_path.rfind("["))
    return field_path[:cut] if cut > 0 else ""


def lines(text: str) -> dict[str, int]:
    """Field path → line, from 1, of all fields of a text in protobuf's text format.

    The first of a repeated field has no index: ``input.dims``, ``input[1].dims``, ``input[1].dims[2]``. Map entries
    are counted too: ``parameters.key``, ``parameters[1].key``.
    """
    reader = _Reader()
    for token in _TOKEN.finditer(text):
        reader.take(token.lastgroup or "", token[0])
    return reader.lines


@dataclass(slots=True)
class _Frame:
    """A message that is open: its path with a dot, the field that is being read, and whether in ``[ … ]``."""

    prefix: str
    field: str = ""
    in_list: bool = False

    def end_value(self) -> None:
        if not self.in_list:
            self.field = ""


class _Reader:
    def __init__(self) -> None:
        self.lines: dict[str, int] = {}
        self._line = 1
        self._counts: dict[str, int] = {}
        self._open = [_Frame("")]

    def take(self, kind: str, word: str) -> None:
        frame = self._open[-1]
        if kind == "line":
            self._line += 1
        elif kind == "name" and not frame.field:
            frame.field = word
        elif kind == "open":
            self._open.append(_Frame(f"{self._enter(frame)}."))
        elif kind == "close" and len(self._open) > 1:
            self._open.pop()
            self._open[-1].end_value()
        elif kind in {"left", "right"}:
            frame.in_list = kind == "left"
            frame.end_value()
        elif kind in {"text", "other", "name"} and frame.field:
            self._enter(frame)
            frame.end_value()

    def _enter(self, frame: _Frame) -> str:
        field = f"{frame.prefix}{frame.field}"
        index = self._counts.get(field, 0)
        self._counts[field] = index + 1
        path = f"{field}[{index}]" if index else field
        self.lines[path] = self._line
        return path
