"""Texts that are answered, against expected ones.

They agree where they are the same bytes. A text that is a JSON list or object (``ENTITIES``) is compared as JSON: the
same structure, strings and whole numbers agree; how far its fractions are apart is a difference like that of any other
number.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np

    from builder.artifacts import Json


@dataclass(frozen=True, slots=True)
class Compared:
    """How the texts of one output compare."""

    same: np.ndarray  # BOOL [samples, texts]
    differences: np.ndarray  # FP64 [samples]: the largest of a sample's fractions in JSON
    has_numbers: bool  # whether any expected text holds such a fraction


def compare(expected: np.ndarray, actual: np.ndarray) -> Compared:
    """Compares texts [samples, texts], ``bytes``."""
    import numpy as np

    same, differences, numbers = np.zeros(expected.shape, dtype=bool), np.zeros(len(expected)), False
    for place in np.ndindex(*expected.shape):
        wanted = _document(expected[place])
        numbers = numbers or any(_fractions(wanted))
        difference = _difference(wanted, _document(actual[place]))
        same[place] = difference is not None
        differences[place[0]] = max(float(differences[place[0]]), difference or 0.0)
    return Compared(same, differences, numbers)


def _document(text: Json | bytes) -> Json | bytes:
    """The list or object that a text is in JSON; any other text as it is."""
    if text[:1] not in {b"[", b"{"}:
        return text
    try:
        found = json.loads(text)
    except ValueError:  # no JSON, or no UTF-8
        return text
    return found if isinstance(found, list | dict) else text


def _fractions(value: Json | bytes) -> Iterator[bool]:
    if isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _fractions(item)
    elif isinstance(value, float):
        yield True


def _difference(expected: Json | bytes, actual: Json | bytes) -> float | None:
    """The largest difference of a fraction, infinity where one is no number; None where anything else differs."""
    if isinstance(expected, float) and isinstance(actual, float | int) and not isinstance(actual, bool):
        difference = abs(expected - actual)
        return math.inf if math.isnan(difference) else difference
    if type(expected) is not type(actual):
        return None
    if isinstance(expected, dict) and isinstance(actual, dict):
        return _largest((expected[key], actual[key]) for key in expected) if expected.keys() == actual.keys() else None
    if isinstance(expected, list) and isinstance(actual, list):
        return _largest(zip(expected, actual, strict=True)) if len(expected) == len(actual) else None
    return 0.0 if expected == actual else None


def _largest(pairs: Iterable[tuple[Json, Json]]) -> float | None:
    largest = 0.0
    for pair in pairs:
        difference = _difference(*pair)
        if difference is None:
            return None
        largest = max(largest, difference)
    return largest
