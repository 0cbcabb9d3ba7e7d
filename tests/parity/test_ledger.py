from __future__ import annotations

import numpy as np
import pytest

from builder.parity.ledger import entry
from builder.parity.neighbours import agreement

VECTORS = np.eye(4, dtype=np.float32) + np.array([[0, 0.5, 0, 0], [0.5, 0, 0, 0], [0, 0, 0, 0.4], [0, 0, 0.4, 0]])


def test_neighbours_are_compared_by_cosine() -> None:
    assert agreement(VECTORS, 7 * VECTORS) == 1.0
    assert agreement(VECTORS, VECTORS[[0, 2, 1, 3]]) == 0.0


def test_an_entry_tells_what_is_missed() -> None:
    wrong = VECTORS + np.float32(0.02) * np.roll(VECTORS, 1, axis=0)
    seen = entry("fp16", "cosine", {"EMBEDDING": VECTORS}, {"EMBEDDING": wrong}, {"cosine": 0.99999})
    assert not seen.within
    assert seen.why().startswith("cosine 0.999")
    assert seen.as_json()["after"] == "fp16"
    assert "neighbour_agreement" not in seen.figures
    assert entry("x", "cosine", {"EMBEDDING": VECTORS}, {"EMBEDDING": wrong}, {"cosine": 0.999}).within


@pytest.mark.parametrize(("least", "within"), [(0.5, True), (0.51, False)])
def test_neighbours_are_held_where_there_is_a_tolerance(least: float, within: bool) -> None:
    moved = VECTORS.copy()
    moved[0], moved[1] = [1, 0, 0.9, 0], [0, 1, 0, 0.9]  # away from each other
    moved[2], moved[3] = [0, 0, 1, 0.95], [0, 0, 0.95, 1]
    limits = {"cosine": -1.0, "neighbour_agreement": least}
    seen = entry("int8", "cosine", {"EMBEDDING": VECTORS}, {"EMBEDDING": moved}, limits)
    assert seen.figures["neighbour_agreement"] == 0.5
    assert ("neighbour_agreement" not in seen.missed) is within


def test_what_cannot_be_compared_is_not_within() -> None:
    broken = VECTORS * np.nan
    seen = entry("fp16", "cosine", {"EMBEDDING": VECTORS}, {"EMBEDDING": broken}, {"cosine": 0.9})
    assert not seen.within
    assert "NaN" in seen.why()
    assert seen.as_json()["failures"]
