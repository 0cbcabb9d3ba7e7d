"""How models are asked: texts of one length together, tokens of each sample alone, images from the probes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.artifacts import ImageFiles, Reference, TokenizerFiles
from builder.core.digest import describe_folder
from builder.errors import ModelError
from builder.parity.questions import calibration, questions
from builder.tools.safetensors_values import save_arrays
from tests.optimise.models import SAMPLES, make_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TEXTS = [{"text": "a wonderful film"}, {"text": "the train"}, {"text": "a wonderful film"}, {"text": "UPPER case"}]


class Echo:
    """A model whose answer is its input: for each token its id, or for a sample the sum of its pixels."""

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> dict[str, Any]:
        if "pixel_values" in inputs:
            return {"LOGITS": inputs["pixel_values"].sum(axis=(1, 2, 3))[:, None]}
        return {"LOGITS": inputs["input_ids"].astype(np.float32)[..., None]}


@pytest.fixture
def tokens(tmp_path: Path) -> TokenizerFiles:
    return make_tokens(tmp_path / "tokens")


def reference(folder: Path, arrays: dict[str, Any], texts: Sequence[Mapping[str, Any]] = ()) -> Reference:
    folder.mkdir()
    save_arrays(arrays, folder / "expected.safetensors")
    (folder / "samples.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
    return Reference(describe_folder(folder), ("LOGITS",), (), {}, "logits")


def test_texts_of_one_length_share_a_batch_and_answers_keep_their_order(tokens: TokenizerFiles, tmp_path: Path) -> None:
    lengths = np.array([5, 4, 5, 4])
    made = reference(tmp_path / "r", {"LOGITS": np.zeros((4, 5, 1), "f"), "lengths": lengths}, TEXTS)
    asked = questions(made, tokens)
    assert all(len({len(row) for row in batch.inputs["input_ids"]}) == 1 for batch in asked.batches)
    answers = asked.ask(Echo())["LOGITS"][..., 0]
    assert answers.shape == (4, max(batch.inputs["input_ids"].shape[1] for batch in asked.batches))
    assert np.array_equal(answers[0], answers[2])
    assert not np.array_equal(answers[0], answers[1])
    assert answers[0][0] == 2  # [CLS]


def test_texts_are_prepared_as_they_are_served(tokens: TokenizerFiles, tmp_path: Path) -> None:
    made = reference(tmp_path / "r", {"LOGITS": np.zeros((4, 1), "f")}, TEXTS)
    prompted = questions(made, replace(tokens, prompt="the "))
    plain = questions(made, tokens)
    assert sum(len(batch.samples) for batch in prompted.batches) == plain.count == 4
    longest = [max(batch.inputs["input_ids"].shape[1] for batch in asked.batches) for asked in (plain, prompted)]
    assert longest[1] > longest[0]


def test_a_text_without_tokens_is_refused(tokens: TokenizerFiles) -> None:
    with pytest.raises(ModelError, match=r"sample 1 .* gives no tokens"):
        calibration(SAMPLES[:2], replace(tokens, files=_without_special(tokens)))


def _without_special(tokens: TokenizerFiles) -> Any:
    path = tokens.files["tokenizer.json"].path
    data = json.loads(path.read_text(encoding="utf-8"))
    data["post_processor"], data["normalizer"] = None, {"type": "Replace", "pattern": {"Regex": "."}, "content": ""}
    path.write_text(json.dumps(data), encoding="utf-8")
    return describe_folder(path.parent)


def test_images_are_asked_as_the_probes_hold_them(tmp_path: Path) -> None:
    pixels = np.arange(2 * 3 * 2 * 2, dtype=np.float32).reshape(2, 3, 2, 2)
    sums = pixels.sum(axis=(1, 2, 3))[:, None]
    arrays = {
        "LOGITS": np.zeros((9, 1), np.float32),
        "probe.0.pixel_values": pixels,
        "probe.0.rows": np.array([0, 1]),
        "probe.0.LOGITS": sums,
        "probe.1.pixel_values": pixels,
        "probe.1.rows": np.array([0, 4, 3]),  # of a batch in which the two images are repeated
        "probe.1.LOGITS": sums[[0, 0, 1]],
    }
    asked = questions(reference(tmp_path / "r", arrays), ImageFiles({}, 2, 2))
    assert asked.count == 5
    answers = asked.ask(Echo())["LOGITS"]
    assert np.array_equal(answers, asked.expected["LOGITS"])
