"""How values and choices are spelled in messages."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.artifacts import Json

_LONGEST = 60  # characters of a value that a message shows


def show(value: Json) -> str:
    """A value in words, short enough for one line."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = str(value)
    return f"the string {text[:_LONGEST]!r}{' …' if len(text) > _LONGEST else ''}"


def did_you_mean(value: object, choices: Iterable[str]) -> str:
    """``; did you mean 'x'?``, or nothing when no choice is near."""
    folded = {choice.casefold(): choice for choice in choices}
    near = difflib.get_close_matches(str(value).casefold(), folded, n=1, cutoff=0.7)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""
