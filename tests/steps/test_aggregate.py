"""The aggregate step against the same said in plain Python."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.steps.kit import load_step, model, request

if TYPE_CHECKING:
    from pathlib import Path

STEP = load_step("aggregate")
VALUES = st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0])  # many ties, and sums without rounding
SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(1, 4))


@given(arrays(np.float32, SHAPES, elements=VALUES))
def test_mean_and_maximum(stacked: np.ndarray) -> None:
    models, rows, labels = stacked.shape
    for row in range(rows):
        for label in range(labels):
            given_here = [float(stacked[index, row, label]) for index in range(models)]
            assert STEP.mean(stacked)[row, label] == pytest.approx(sum(given_here) / models, abs=1e-6)
            assert STEP.maximum(stacked)[row, label] == max(given_here)


@given(arrays(np.float32, SHAPES, elements=VALUES))
def test_vote(stacked: np.ndarray) -> None:
    models, rows, labels = stacked.shape
    got = STEP.vote(stacked)
    assert got.dtype == np.float32
    for row in range(rows):
        choices = [max(range(labels), key=lambda label: stacked[index, row, label]) for index in range(models)]
        shares = [Fraction(choices.count(label), models) for label in range(labels)]
        assert got[row].tolist() == pytest.approx([float(share) for share in shares], abs=1e-6)
        # The winner: most votes, then the highest mean probability, then the first.
        sums = [sum(Fraction(float(stacked[index, row, label])) for index in range(models)) for label in range(labels)]
        winner = max(range(labels), key=lambda label: (shares[label], sums[label]))
        assert got[row].argmax() == winner
        assert (got[row] == got[row].max()).sum() == 1


def test_a_tie_goes_to_the_more_certain_model() -> None:
    unsure, sure = [[0.6, 0.4]], [[0.1, 0.9]]
    for first, second in ((unsure, sure), (sure, unsure)):
        shares = STEP.vote(np.array([first, second], np.float32))[0]
        assert shares.argmax() == 1
        assert shares.tolist() == pytest.approx([0.5, 0.5], abs=1e-7)
        assert shares[1] > 0.5


def test_a_bad_request_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"mode": "max", "inputs": ["A", "B"], "output": "PROBABILITIES"}
    served = model(STEP, tmp_path, settings, monkeypatch)
    low, high, short = (np.full((2, count), value, np.float32) for count, value in ((3, 0.25), (3, 0.5), (2, 0.5)))
    good, uneven, missing, rows = served.execute(
        [request(A=low, B=high), request(A=low, B=short), request(A=low), request(A=low, B=high[:1])]
    )
    assert good.tensors["PROBABILITIES"].tolist() == [[0.5] * 3] * 2
    assert uneven.error.message == "A, B must have as many labels as each other, got [3, 2]"
    assert missing.error.message == "B is missing"
    assert rows.error.message == "A, B must have as many rows as each other, got [2, 1]"


def test_an_unknown_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="mode is 'median'; allowed: mean, max, vote"):
        model(STEP, tmp_path, {"mode": "median", "inputs": ["A"], "output": "P"}, monkeypatch)
