"""The reference's answers against those of transformers 4, which are kept in a file: 5 has no such pipeline."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.export.expected_spans import Read, best_answer
from builder.tools import hf, hf_steps
from tests.models import make_tokenizer
from tests.steps.answers import FILE, LENGTH, logits

if TYPE_CHECKING:
    from pathlib import Path

CASES = [case for case in json.loads(FILE.read_text(encoding="utf-8")) if len(case["options"]) < 2]


@pytest.fixture(scope="module")
def reads(tmp_path_factory: pytest.TempPathFactory) -> list[Read]:
    """What is read of each case."""
    folders: dict[str, Path] = {}
    for kind in sorted({case["kind"] for case in CASES}):
        folders[kind] = make_tokenizer(kind, tmp_path_factory.mktemp(kind))
    tokenizers = {kind: hf.load_tokenizer(folder) for kind, folder in folders.items()}
    found = []
    for case in CASES:
        texts = case["question"], case["context"]
        tokens = hf_steps.encode(tokenizers[case["kind"]], texts, LENGTH, "only_second")
        places = [np.asarray(tokens[name], np.int64) for name in ("OFFSETS", "SEQUENCE_IDS", "WORD_IDS")]
        aligned = case["options"].get("align_to_words", True)
        found.append(Read(texts[1], *places[:2], places[2] if aligned else None))
    return found


def right(case: dict[str, Any], read: Read, *, longest: int = 15) -> bool:
    starts, ends = logits(case["seed"], len(read.sequence))
    longest = case["options"].get("max_answer_len", longest)
    answer, wanted = best_answer(starts, ends, read, longest, has_nothing=True), case["answer"]
    same = (answer.start, answer.end, read.context[answer.start : answer.end])
    return (
        same == tuple(wanted[key] for key in ("start", "end", "answer")) and abs(answer.score - wanted["score"]) < 1e-6
    )


def test_answers_of_transformers(reads: list[Read]) -> None:
    assert len(CASES) == 63
    assert [case for case, read in zip(CASES, reads, strict=True) if not right(case, read)] == []


def test_whole_words_and_the_length_matter(reads: list[Read]) -> None:
    asked = list(zip(CASES, reads, strict=True))
    of_tokens = [right(case, Read(read.context, read.offsets, read.sequence, None)) for case, read in asked]
    shorter = [right(case, read, longest=2) for case, read in asked]
    assert 20 < sum(of_tokens) < 63
    assert 20 < sum(shorter) < 63
