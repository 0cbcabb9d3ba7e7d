"""The reference stage: its answers do not depend on batches, its controls are wrong, its probes are what they say."""

import dataclasses
import json

import numpy as np
import pytest

from builder.artifacts import Sample
from builder.core.execute import Executor
from builder.core.store import Store
from builder.errors import ModelError
from builder.export.probes import make_probes, probe_shapes
from builder.export.reference import Refer
from builder.export.tokenizer import Tokenizer
from builder.tools import hf
from builder.tools.safetensors_values import load_arrays
from tests.export.builds import refer, source_of
from tests.models import TEXTS, make_model, write_json

TASK = "text-classification"


@pytest.fixture(scope="module")
def bert(exported):
    return exported("bert", TASK)


def arrays(reference):
    return load_arrays(reference.files["expected.safetensors"].path)


def test_an_answer_does_not_depend_on_the_other_samples(bert, tmp_path):
    alone = refer(bert.source, bert.tokenizer, TASK, tmp_path, [Sample(TEXTS[4])])

    assert np.abs(arrays(alone)["LOGITS"][0] - bert.expected["LOGITS"][4]).max() < 1e-5


def test_writes_the_samples(bert):
    lines = bert.reference.files["samples.jsonl"].path.read_text(encoding="utf-8").split("\n")

    assert [json.loads(line) for line in lines[:-1]] == [{"text": text} for text in TEXTS]
    assert lines[-1] == ""
    assert bert.reference.record["samples"] == len(TEXTS)


def test_pairs_use_token_types_and_swapping_them_is_a_control(bert, tmp_path):
    from transformers import pipeline

    pairs = [Sample(TEXTS[index], TEXTS[index + 1]) for index in (0, 3, 4)]
    reference = refer(bert.source, bert.tokenizer, TASK, tmp_path, pairs)

    expected = arrays(reference)
    assert reference.controls == ("truncated", "swapped_pair")
    ask = pipeline("text-classification", model=str(bert.folder), top_k=None, device="cpu")
    asked = [{"text": pair.text, "text_pair": pair.text_pair} for pair in pairs]
    answers = ask(asked, truncation=True, max_length=bert.tokenizer.max_length)
    scores = [[{item["label"]: item["score"] for item in row}[label] for label in reference.labels] for row in answers]
    assert np.abs(np.asarray(scores) - expected["PROBABILITIES"]).max() < 1e-5
    assert np.abs(np.asarray(scores) - expected["control.swapped_pair.PROBABILITIES"]).max() > 0.01


def test_controls_differ_from_the_answers(exported):
    for task, outputs in ((TASK, ("LOGITS", "PROBABILITIES")), ("sentence-embedding", ("EMBEDDING",))):
        built = exported("bert", task)
        for control in built.reference.controls:
            for output in outputs:
                expected, wrong = built.expected[output], built.expected[f"control.{control}.{output}"]
                assert wrong.shape == expected.shape
                assert np.abs(wrong - expected).max() > 0.01
    assert exported("bert", "sentence-embedding").reference.controls == ("truncated", "wrong_pooling")


@pytest.mark.parametrize(
    ("config", "metric", "outputs"),
    [
        ({"problem_type": "multi_label_classification", "num_labels": 4}, "multi-label", ("LOGITS", "PROBABILITIES")),
        ({"problem_type": "regression", "num_labels": 1}, "regression", ("LOGITS",)),
    ],
)
def test_other_problems_than_single_label(tmp_path, config, metric, outputs):
    from transformers import pipeline

    folder = make_model("distilbert", TASK, tmp_path / "model", **config)
    tokenizer = Executor(Store.at(tmp_path), "test").run(Tokenizer(TASK), source_of(folder))
    reference = refer(source_of(folder), tokenizer, TASK, tmp_path)

    assert (reference.metric, reference.outputs) == (metric, outputs)
    ask = pipeline("text-classification", model=str(folder), top_k=None, device="cpu")
    answers = ask(list(TEXTS), truncation=True, max_length=tokenizer.max_length)
    scores = [[{item["label"]: item["score"] for item in row}[label] for label in reference.labels] for row in answers]
    assert np.abs(np.asarray(scores) - arrays(reference)[outputs[-1]]).max() < 1e-5


def test_probe_shapes_are_the_corners_and_the_middle():
    assert probe_shapes((1, 8), (2, 128)) == [(1, 2), (8, 2), (1, 128), (5, 65), (8, 128)]
    assert probe_shapes((4, 4), (16, 16)) == [(4, 16)]


def test_probes_are_in_the_vocabulary_and_padded_at_the_right_side(bert):
    tokenizer = hf.load_tokenizer(bert.folder)
    config = hf.load_config(bert.folder)
    for side in ("left", "right"):
        files = dataclasses.replace(bert.tokenizer, padding_side=side)
        (probe,) = make_probes([(32, 48)], files, tokenizer, config)
        ids, mask = probe.inputs["input_ids"], probe.inputs["attention_mask"]
        assert ids.min() >= 0
        assert ids.max() < len(tokenizer)
        assert set(mask.sum(axis=1)) != {48}
        assert mask[0].sum() == 48
        assert (ids[mask == 0] == bert.tokenizer.pad_token_id).all()
        kept = mask if side == "right" else mask[:, ::-1]
        assert (np.diff(kept, axis=1) <= 0).all()
        assert set(probe.inputs["token_type_ids"].flatten()) == {0, 1}
        assert len(probe.rows) == 3  # of a large probe few rows are stored


def test_a_sequence_that_the_tokenizer_never_makes_is_refused(bert):
    stage = Refer(TASK, sequence=(2, bert.tokenizer.max_length + 1))

    with pytest.raises(ModelError, match=r"shapes\.sequence\.max is 49; allowed: up to 48"):
        stage.requires((bert.source, bert.tokenizer, [Sample("a")]))


def test_a_sample_without_tokens_is_refused(tmp_path):
    folder = make_model("roberta", TASK, tmp_path / "model")
    state = json.loads((folder / "tokenizer.json").read_text())
    write_json(folder / "tokenizer.json", {**state, "post_processor": None})
    config = json.loads((folder / "tokenizer_config.json").read_text())
    write_json(folder / "tokenizer_config.json", {**config, "tokenizer_class": "PreTrainedTokenizerFast"})
    tokenizer = Executor(Store.at(tmp_path), "test").run(Tokenizer(TASK), source_of(folder))

    with pytest.raises(ModelError, match=r"sample 2 \(''\) gives no tokens"):
        refer(source_of(folder), tokenizer, TASK, tmp_path, [Sample("text"), Sample("")])


def test_no_samples_are_refused(bert):
    with pytest.raises(ModelError, match="no sample"):
        Refer(TASK, sequence=(2, 4)).requires((bert.source, bert.tokenizer, []))
