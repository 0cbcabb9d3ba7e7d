"""Text → :class:`~builder.recipe.document.Node`.

The parser is ruamel.yaml's. What a plain scalar means is decided here, by the core schema of YAML 1.2.2 (section
10.3.2): ``yes``, ``off`` and ``2024-01-01`` are strings, and ``017`` is 17.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
)
from ruamel.yaml.reader import ReaderError

from builder.recipe.document import DEPTH_LIMIT, Keys, Node, Place, Problem, Scalar, refuse, unfit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ruamel.yaml.error import StreamMark
    from ruamel.yaml.events import Event

_INT: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LITERALS: Final[Mapping[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_LONGEST_INT: Final = 30  # digits: more than 64 bits need, and few enough for int()
_CORE: Final = "tag:yaml.org,2002:"


def parse(text: str, name: str, problems: list[Problem], *, at: Place | None = None) -> Node:
    """Reads one YAML document.

    Args:
        text: the document.
        name: what places call it, e.g. the path of the file as the user gave it.
        problems: gets what is wrong but leaves the rest readable: duplicate keys, keys that are no strings, tags.
        at: one place for everything in the document, for an override.

    Raises:
        RecipeError: the text is no YAML, is nested too deep, or holds two documents.
    """
    reader = _Reader(name, problems, at)
    try:
        return reader.read(YAML(typ="safe", pure=True).parse(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = reader.place(mark) if mark else reader.start
        raise refuse([Problem(place, _syntax(error))]) from error
    except ReaderError as error:
        place = at or _place_in(text, error.position, name)
        raise refuse([Problem(place, f"not YAML: the character {_code(error)} is not allowed")]) from error
    except YAMLError as error:
        raise refuse([Problem(reader.start, f"not YAML: {_first_line(error)}")]) from error


def resolve_plain(text: str) -> Scalar:
    """What an unquoted scalar means in YAML 1.2."""
    if text in _LITERALS:
        return _LITERALS[text]
    if _INT.fullmatch(text):
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text, base) if len(text) <= _LONGEST_INT else float("inf")
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text


class _Reader:
    """Events of ruamel.yaml → nodes."""

    def __init__(self, name: str, problems: list[Problem], at: Place | None) -> None:
        self._name = name
        self._problems = problems
        self._at = at
        self._anchors: dict[str, Node] = {}
        self.start = at or Place(f"{name}:1:1", (1, 1))

    def place(self, mark: StreamMark) -> Place:
        line, column = mark.line + 1, mark.column + 1
        return self._at or Place(f"{self._name}:{line}:{column}", (line, column))

    def read(self, events: Iterator[Event]) -> Node:
        root: Node | None = None
        for event in events:
            if not isinstance(event, DocumentStartEvent):
                continue  # the start and end of the stream, the end of the document
            if root is not None:
                raise refuse([Problem(self.place(event.start_mark), "a second document; one file is one recipe")])
            root = self._node(next(events), events, ())
        return root or Node(None, self.start)

    def _node(self, event: Event, events: Iterator[Event], path: Keys) -> Node:
        place = self.place(event.start_mark)
        if len(path) > DEPTH_LIMIT:
            raise refuse([Problem(place, f"nested more than {DEPTH_LIMIT} levels deep")])
        if isinstance(event, AliasEvent):
            return self._alias(event.anchor, place, path)
        if isinstance(event, ScalarEvent):
            node = Node(self._scalar(event, place, path), place, text=event.value)
        elif isinstance(event, MappingStartEvent):
            node = self._mapping(event, events, path)
        else:
            node = self._sequence(event, events, path)
        if isinstance(event, NodeEvent) and event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, anchor: str, place: Place, path: Keys) -> Node:
        if anchor not in self._anchors:
            raise refuse([Problem(place, f"alias *{anchor} names no anchor that ends before it", path)])
        known = self._anchors[anchor]
        return Node(known.value, place, known.text, known.keys)

    def _sequence(self, start: Event, events: Iterator[Event], path: Keys) -> Node:
        self._check_tag(start, "seq", path)
        items: list[Node] = []
        while not isinstance(event := next(events), SequenceEndEvent):
            items.append(self._node(event, events, (*path, len(items))))
        return Node(items, self.place(start.start_mark))

    def _mapping(self, start: Event, events: Iterator[Event], path: Keys) -> Node:
        self._check_tag(start, "map", path)
        entries: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        while not isinstance(event := next(events), MappingEndEvent):
            key = self._node(event, events, (*path, "?"))
            name = self._key(key, path)
            value = self._node(next(events), events, (*path, name))
            if value.value is None and not value.text:
                value.place = key.place  # nothing was written: the parser is already at the next line
            if name in entries:
                words = f"duplicate key; first at {keys[name].text}"
                self._problems.append(Problem(key.place, words, (*path, name)))
            else:
                entries[name], keys[name] = value, key.place
        return Node(entries, self.place(start.start_mark), keys=keys)

    def _key(self, key: Node, path: Keys) -> str:
        if not isinstance(key.value, str):
            text = key.text or "(not a word)"
            mend = f'; quote it: "{text}"' if key.text else ""
            self._problems.append(Problem(key.place, f"key {text} is not a string{mend}", path))
            return text
        if (wrong := unfit(key.value)) is not None:
            self._problems.append(Problem(key.place, f"key: {wrong}", path))
            return repr(key.value)
        if key.value == "<<" and key.text:
            self._problems.append(Problem(key.place, "'<<' is no key: YAML 1.2 has no merge keys", path))
        return key.value

    def _scalar(self, event: ScalarEvent, place: Place, path: Keys) -> Scalar:
        plain, quoted = event.implicit
        tag = str(event.tag or "")
        if quoted or tag in {"!", f"{_CORE}str"}:
            return str(event.value)
        if tag or not plain:
            self._refuse_tag(tag, place, path)
            return str(event.value)
        return resolve_plain(event.value)

    def _check_tag(self, event: Event, kind: str, path: Keys) -> None:
        tag = str(event.tag or "") if isinstance(event, CollectionStartEvent) else ""
        if tag not in {"", "!", f"{_CORE}{kind}"}:
            self._refuse_tag(tag, self.place(event.start_mark), path)

    def _refuse_tag(self, tag: str, place: Place, path: Keys) -> None:
        self._problems.append(Problem(place, f"tag {tag.replace(_CORE, '!!')} is not allowed", path))


def _syntax(error: MarkedYAMLError) -> str:
    problem = _first_line(error.problem or error.context or error)
    if r"'\t'" in problem:
        return "not YAML: a tab; indent with spaces"
    context = f" {_first_line(error.context)}," if error.context and error.problem else ""
    return f"not YAML:{context} {problem}"


def _code(error: ReaderError) -> str:
    character = error.character if isinstance(error.character, int) else ord(str(error.character)[:1] or "?")
    return f"U+{character:04X}"


def _place_in(text: str, position: int, name: str) -> Place:
    before = text[:position]
    line, column = before.count("\n") + 1, position - before.rfind("\n")
    return Place(f"{name}:{line}:{column}", (line, column))


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "unreadable"
