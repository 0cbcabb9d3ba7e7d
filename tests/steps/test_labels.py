"""The labels step against transformers' own text-classification pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from builder.tools import hf
from tests.models import TEXTS, make_model
from tests.steps.kit import load_step, model, request

if TYPE_CHECKING:
    from pathlib import Path

STEP = load_step("labels")
NAMES = ["sad", "glad", "Ärger", "怒", "👍"]


def decoded(outputs: dict[str, np.ndarray]) -> list[list[tuple[str, float]]]:
    return [
        [(label.decode(), float(score)) for label, score in zip(labels, scores, strict=True)]
        for labels, scores in zip(outputs["LABEL"], outputs["SCORE"], strict=True)
    ]


def labels(**changes: Any) -> Any:
    return STEP.Labels({"schema": 1, "labels": NAMES, "top_k": 2, **changes})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_as_the_pipeline_of_transformers(tmp_path: Path) -> None:
    import torch
    from transformers import pipeline

    names = dict(enumerate(NAMES[:3]))
    settings = {"id2label": names, "label2id": {name: index for index, name in names.items()}}
    folder = make_model("bert", "text-classification", tmp_path / "model", **settings)
    peer = pipeline("text-classification", model=str(folder), device="cpu")
    with torch.no_grad(), hf.one_thread():
        encoded = [peer.tokenizer(text, truncation=True, return_tensors="pt") for text in TEXTS]
        logits = torch.cat([peer.model(**tokens).logits for tokens in encoded])
    probabilities = logits.softmax(dim=-1).numpy()
    with hf.one_thread():
        wanted = {top_k: peer(list(TEXTS), top_k=top_k, truncation=True) for top_k in (1, 3)}
    for top_k, items_of_rows in wanted.items():
        got = decoded(labels(labels=NAMES[:3], top_k=top_k).best(probabilities))
        for row, items in zip(got, items_of_rows, strict=True):
            assert [name for name, _ in row] == [item["label"] for item in items]
            assert [score for _, score in row] == pytest.approx([item["score"] for item in items], abs=1e-6)
    assert len({row[0][0] for row in got}) > 1  # the comparison sees more than one label


EQUAL = st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0])


@given(arrays(np.float32, st.tuples(st.integers(1, 4), st.just(5)), elements=EQUAL), st.integers(1, 5))
def test_best_first_and_of_equal_ones_the_first(probabilities: np.ndarray, top_k: int) -> None:
    wanted = [
        sorted(zip(NAMES, row, strict=True), key=lambda pair: pair[1], reverse=True)[:top_k]
        for row in probabilities.tolist()
    ]
    assert decoded(labels(top_k=top_k).best(probabilities)) == wanted


def test_below_the_threshold_there_is_no_label() -> None:
    probabilities = np.array([[0.1, 0.5, 0.4, 0, 0], [0.2, 0.2, 0.2, 0.2, 0.2]], np.float32)
    before = probabilities.copy()
    got = decoded(labels(threshold=0.5).best(probabilities))
    assert got == [[("glad", 0.5), ("", 0.0)], [("", 0.0), ("", 0.0)]]
    np.testing.assert_array_equal(probabilities, before)


@pytest.mark.parametrize("top_k", [0, 6])
def test_as_many_labels_as_there_are(top_k: int) -> None:
    with pytest.raises(ValueError, match=f"top_k is {top_k}; allowed: 1 to 5, the number of labels"):
        labels(top_k=top_k)


def test_a_bad_request_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = model(STEP, tmp_path, {"labels": NAMES, "top_k": 1}, monkeypatch)
    good, bad, nan = served.execute(
        [
            request(PROBABILITIES=np.eye(5, dtype=np.float32)),
            request(PROBABILITIES=np.ones((1, 4), np.float32)),
            request(PROBABILITIES=np.full((1, 5), np.nan, np.float32)),
        ]
    )
    assert decoded(good.tensors) == [[(name, 1.0)] for name in NAMES]
    assert bad.error.message == "PROBABILITIES has shape [1, 4]; allowed: [n, 5], n at least 1"
    assert nan.error.message == "PROBABILITIES, row 0: holds NaN or infinity; allowed: finite numbers"
