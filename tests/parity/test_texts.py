"""Texts that are answered: the same bytes, or the same JSON but for its fractions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from builder.parity.compare import compare, figures_of
from builder.parity.texts import compare as compare_texts
from builder.verify.controls import make_controls


def column(*texts: bytes) -> np.ndarray:
    array = np.empty((len(texts), 1), dtype=object)
    array[:, 0] = texts
    return array


@pytest.mark.parametrize(
    ("expected", "actual", "same", "difference"),
    [
        (b"a", b"a", True, 0),
        (b"a", b"a ", False, 0),
        (b"1.0", b"1.00", False, 0),  # no list, no object: a text
        (b"[", b"[", True, 0),
        (b"\xff", b"\xff", True, 0),
        (b'[{"a": 0.5, "b": "x"}]', b'[ {"b": "x", "a": 0.75} ]', True, 0.25),
        (b'{"a": 1.0}', b'{"a": 1}', True, 0),
        (b'{"a": 1}', b'{"a": 1.0}', False, 0),
        (b'{"a": 1.0}', b'{"a": true}', False, 0),
        (b'{"a": 1.0}', b'{"a": NaN}', True, math.inf),
        (b'{"a": [1, 2]}', b'{"a": [1, 2, 3]}', False, 0),
        (b'{"a": "x"}', b'{"b": "x"}', False, 0),
        (b'{"a": null}', b"[]", False, 0),
    ],
)
def test_texts(expected: bytes, actual: bytes, same: bool, difference: float) -> None:
    found = compare_texts(column(expected), column(actual))
    assert (bool(found.same[0, 0]), float(found.differences[0])) == (same, difference)


def test_a_pipeline_has_the_figures_of_its_outputs() -> None:
    numbers: Any = {"SCORE": np.array([[0.5], [0.25]], np.float32)}
    texts: Any = {"LABEL": column(b"sad", b"glad")}
    notes: Any = {"ENTITIES": column(b"[]", b'[{"score": 0.5}]')}
    assert figures_of("pipeline", numbers) == ("max_difference",)
    assert figures_of("pipeline", texts) == ("text_agreement",)
    assert set(figures_of("pipeline", notes)) == {"max_difference", "text_agreement"}
    assert figures_of("regression", {}) == ("max_difference",)


def test_a_number_that_is_none_fails_whatever_it_is_compared_with() -> None:
    expected: Any = {"SCORE": np.zeros((2, 1), np.float32), "START": np.zeros((2, 1), np.int64)}
    found = compare("pipeline", expected, {**expected, "SCORE": np.array([[0], [np.nan]], np.float32)})
    assert [failure.name for failure in found.failures] == ["not-finite"]
    found = compare("pipeline", expected, {**expected, "START": np.array([[0], [1]])})
    assert found.figures == {"max_difference": 1.0}
    assert found.worst["max_difference"].sample == 1


def test_shuffled_answers_are_other_answers() -> None:
    labels = column(b"sad", b"sad", b"glad", b"angry")
    shuffled = next(iter(make_controls("pipeline", {"LABEL": labels}, {}))).expected["LABEL"]
    assert (shuffled != labels).all()
    numbers = np.array([[1.0], [2.0], [2.0]])
    shuffled = next(iter(make_controls("pipeline", {"SCORE": numbers}, {}))).expected["SCORE"]
    assert (shuffled != numbers).sum() == 2
