"""The spans step against the question-answering pipeline of transformers 4, by way of the tokenizer step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from builder.tools import hf
from tests.models import make_tokenizer
from tests.steps.answers import FILE, LENGTH, logits
from tests.steps.kit import load_step, model, request
from tests.steps.test_tokenize import SETTINGS

if TYPE_CHECKING:
    from pathlib import Path

STEP, TOKENIZE = load_step("spans"), load_step("tokenize")
CASES = json.loads(FILE.read_text(encoding="utf-8"))
EXTRA = ["OFFSETS", "SEQUENCE_IDS", "WORD_IDS"]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The tokenizer step for each kind of tokenizer, as a question-answering recipe sets it."""
    found = {}
    for kind in sorted({case["kind"] for case in CASES}):
        folder = make_tokenizer(kind, tmp_path_factory.mktemp(kind))
        (folder / "tokenizer.json").write_text(hf.load_tokenizer(folder).backend_tokenizer.to_str(), encoding="utf-8")
        values = {**SETTINGS, "text_pair": True, "truncation_strategy": "only_second", "extra_outputs": EXTRA}
        found[kind] = TOKENIZE.load_encoder(folder, {**values, "max_length": LENGTH, "buckets": [LENGTH]})
    return found


def settings(options: dict[str, Any]) -> dict[str, Any]:
    """The step's settings for the pipeline's arguments."""
    return {
        "schema": 1,
        "max_answer_length": options.get("max_answer_len", 15),
        "align_to_words": options.get("align_to_words", True),
        "handle_impossible_answer": options.get("handle_impossible_answer", False),
    }


def rows_of(case: dict[str, Any], encoders: dict[str, Any]) -> Any:
    """What reaches the step: the case's tokens in a batch with a longer text, and the pipeline's logits."""
    texts = (case["question"], case["context"])
    tokens = encoders[case["kind"]].encode([[texts, ("?", "word " * 60)]])[0]
    length = int(tokens["attention_mask"][0].sum())
    start, end = (np.full(tokens["input_ids"].shape[1], 50, np.float32) for _ in range(2))  # padding is not looked at
    start[:length], end[:length] = logits(case["seed"], length)
    return STEP.Row(start, end, *(tokens[name][0] for name in EXTRA), case["context"])


def find(case: dict[str, Any], encoders: dict[str, Any], **changes: Any) -> Any:
    row = rows_of(case, encoders)
    values = {**settings(case["options"]), **changes}
    return STEP.Spans(values).find(row if values["align_to_words"] else row._replace(word_ids=None))


def agrees(answer: Any, wanted: dict[str, Any]) -> bool:
    found = {"answer": answer.text, "start": answer.start, "end": answer.end}
    return found == {key: wanted[key] for key in found} and abs(answer.score - wanted["score"]) < 1e-6


@pytest.mark.parametrize("kind", sorted({case["kind"] for case in CASES}))
def test_answers_of_transformers(encoders: dict[str, Any], kind: str) -> None:
    for case in (case for case in CASES if case["kind"] == kind):
        answer = find(case, encoders)
        assert agrees(answer, case["answer"]), (case, answer)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_answer_length": 2},
        {"align_to_words": False},
        {"handle_impossible_answer": False},
        {"no_answer_token": False},
    ],
)
def test_each_setting_matters(encoders: dict[str, Any], changes: dict[str, Any]) -> None:
    assert not all(agrees(find(case, encoders, **changes), case["answer"]) for case in CASES)


def test_spans_that_read_the_same_add_up(encoders: dict[str, Any]) -> None:
    case = {"kind": "wordpiece", "question": "?", "context": "the The THE", "seed": 0}
    row = rows_of({**case, "options": {}}, encoders)
    flat = row._replace(start_logits=np.zeros_like(row.start_logits), end_logits=np.zeros_like(row.end_logits))
    answer = STEP.Spans(settings({"max_answer_len": 1})).find(flat)
    assert answer == ("the", pytest.approx(3 * (1 / 4) ** 2), 0, 3)  # three tokens and [CLS] share each probability
    alone = STEP.Spans(settings({"max_answer_len": 1, "align_to_words": False})).find(flat._replace(word_ids=None))
    assert alone.score == pytest.approx((1 / 4) ** 2)


LOGITS = arrays(np.float32, 12, elements=st.integers(-8, 8).map(lambda value: value / 2))


@hypothesis_settings(deadline=None)  # the first example imports transformers
@given(LOGITS, LOGITS, st.integers(2, 10), st.integers(1, 12))
def test_the_best_span_of_all(start: np.ndarray, end: np.ndarray, first: int, longest: int) -> None:
    """Against every span tried in turn, with what transformers 5 still has of the algorithm as a witness."""
    from transformers.pipelines.document_question_answering import select_starts_ends

    sequence_ids = np.array([-1, *[0] * (first - 2), -1, *[1] * (11 - first), -1])[:12]
    offsets = np.stack([np.arange(12), np.arange(12) + 1], axis=1)
    row = STEP.Row(start, end, offsets, sequence_ids, None, "abcdefghijkl")
    answer = STEP.Spans({"schema": 1, "max_answer_length": longest}).find(row)
    mask = np.array([sequence_ids != 1])
    mask[0, 0] = False
    _, _, scores, _ = select_starts_ends(
        start[None].copy(), end[None].copy(), mask.astype(int), np.ones((1, 12), int), max_answer_len=longest
    )
    assert answer.score == pytest.approx(scores[0], rel=1e-4)
    assert answer.end - answer.start <= longest
    assert sequence_ids[answer.start : answer.end].tolist() == [1] * (answer.end - answer.start)


def test_no_answer_is_so_likely_that_nothing_is_left_of_the_others(encoders: dict[str, Any]) -> None:
    row = rows_of(CASES[0], encoders)
    for logits_ in (row.start_logits, row.end_logits):
        logits_[0] = 1000
    answer = STEP.Spans(settings({"handle_impossible_answer": True})).find(row)
    assert answer == ("", 1.0, 0, 0)
    answer = STEP.Spans(settings({})).find(row)
    assert answer.score == 0.0
    assert answer.text == row.context[answer.start : answer.end] != ""


def inputs_of(*rows: Any) -> dict[str, Any]:
    return request(
        START_LOGITS=np.stack([row.start_logits for row in rows]),
        END_LOGITS=np.stack([row.end_logits for row in rows]),
        OFFSETS=np.stack([row.offsets for row in rows]),
        SEQUENCE_IDS=np.stack([row.sequence_ids for row in rows]),
        WORD_IDS=np.stack([row.word_ids for row in rows]),
        TEXT_PAIR=np.array([[row.context.encode()] for row in rows], dtype=object),
    )


def test_a_bad_request_fails_alone(encoders: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [case for case in CASES if case["kind"] == "wordpiece" and not case["options"]][:2]
    rows = [rows_of(case, encoders) for case in cases]
    served = model(STEP, tmp_path, settings({}), monkeypatch)
    width = min(len(row.start_logits) for row in rows)
    cut = [STEP.Row(*(array[:width] for array in row[:5]), row.context) for row in rows]
    empty = cut[0]._replace(sequence_ids=np.full(width, -1))
    bad_text = inputs_of(cut[0])
    bad_text["TEXT_PAIR"].array[0, 0] = b"\xff"
    short = inputs_of(cut[0])
    short["OFFSETS"].array = short["OFFSETS"].array[:, 1:]
    good, nothing, invalid, uneven = served.execute([inputs_of(*cut), inputs_of(cut[1], empty), bad_text, short])
    assert [item.decode() for item in good.tensors["ANSWER"][:, 0]] == [case["answer"]["answer"] for case in cases]
    for name, key in (("SCORE", "score"), ("START", "start"), ("END", "end")):
        assert good.tensors[name].shape == (2, 1)
        assert good.tensors[name][:, 0].tolist() == pytest.approx([case["answer"][key] for case in cases], abs=1e-6)
    assert nothing.error.message == "TEXT_PAIR, row 1: the context has no tokens, or none fits beside the question"
    assert invalid.error.message == "TEXT_PAIR, row 0: byte 0xff at position 0 is not UTF-8"
    assert "must have as many tokens as each other" in uneven.error.message
