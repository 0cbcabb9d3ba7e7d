"""The step that takes a request for all others: hands on what it gets, but for texts that are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.steps.kit import HARD, load_step, model, request

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

STEP = load_step("receive")


def test_it_hands_on_all_but_texts_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"tensors": {"TEXT": [1], "BLOB": [1], "WEIGHT": [-1]}, "texts": ["TEXT"]}
    served = model(STEP, tmp_path, values, monkeypatch)
    texts = np.array([[text.encode()] for text in HARD], dtype=object)
    rest = {
        "BLOB": np.array([[b"\xff\0"]] * len(HARD), dtype=object),
        "WEIGHT": np.full((len(HARD), 2), np.nan, np.float32),  # who takes it judges it
    }
    wrong = texts.copy()
    wrong[1, 0] = b"a\xff"
    good, bad, short = served.execute(
        [request(TEXT=texts, **rest), request(TEXT=wrong, **rest), request(TEXT=texts[:1], **rest)]
    )
    assert good.error is None
    for name, array in {"TEXT": texts, **rest}.items():
        np.testing.assert_array_equal(good.tensors[name], array)
    assert bad.error.message == "TEXT, row 1: byte 0xff at position 1 is not UTF-8"
    assert short.error.message.startswith("TEXT, BLOB, WEIGHT must have as many rows as each other")
