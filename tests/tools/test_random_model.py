"""Seeded models: same seed, same bytes; and classifiers in which every label occurs."""

import hashlib

import numpy as np
import pytest

from builder.errors import ModelError
from builder.tools import hf, random_model
from tests.models import VOCABULARY, make_tokenizer

BERT = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
}
TASK = "text-classification"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return make_tokenizer("wordpiece", tmp_path_factory.mktemp("tokenizer"))


def make(tokenizer, out, seed=0, task=TASK, **config):
    out.mkdir()
    hf.make_random_model({**BERT, **config}, seed, tokenizer, task, out)
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


def logits_of(folder, attention="eager"):
    model, tokenizer = hf.load_model(folder, TASK, attention=attention), hf.load_tokenizer(folder)
    encoded = hf.encode(tokenizer, [(text,) for text in random_model.TEXTS], 64)
    names = ("input_ids", "attention_mask")
    rows = [{name: np.asarray([item[name]]) for name in names} for item in encoded]
    return np.concatenate([hf.run_model(model, row, "logits") for row in rows])


def test_same_seed_same_bytes(tokenizer, tmp_path):
    assert make(tokenizer, tmp_path / "a") == make(tokenizer, tmp_path / "b")
    assert make(tokenizer, tmp_path / "c", seed=1) != make(tokenizer, tmp_path / "d")


def test_files_are_those_of_a_model(tokenizer, tmp_path):
    make(tokenizer, tmp_path / "a")

    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names


@pytest.mark.parametrize("labels", [2, 3, 6])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_label_occurs(tokenizer, tmp_path, labels, seed):
    make(tokenizer, tmp_path / "a", seed, num_labels=labels)

    assert set(logits_of(tmp_path / "a").argmax(axis=1)) == set(range(labels))


@pytest.mark.parametrize("seed", [0, 1, 5])
def test_answers_are_well_above_the_noise_of_fp32(tokenizer, tmp_path, seed):
    """Another order of the same sums changes the logits of a classifier by far less than parity allows (1e-4)."""
    make(tokenizer, tmp_path / "a", seed, num_labels=3, hidden_size=64, intermediate_size=128, num_hidden_layers=2)

    eager, fused = logits_of(tmp_path / "a"), logits_of(tmp_path / "a", attention=None)
    assert 0 < np.abs(eager - fused).max() <= 1e-5


def test_weights_that_training_begins_with_drown_in_noise(tokenizer, tmp_path, monkeypatch):
    """Control: without livelier weights the logits have to be amplified until the noise shows."""
    monkeypatch.setattr(random_model, "_fan_in", lambda _: {})
    make(tokenizer, tmp_path / "a", num_labels=3, hidden_size=64, intermediate_size=128, num_hidden_layers=2)

    eager, fused = logits_of(tmp_path / "a"), logits_of(tmp_path / "a", attention=None)
    assert np.abs(eager - fused).max() > 1e-5


def test_without_scaling_a_random_classifier_has_one_answer(tokenizer, tmp_path, monkeypatch):
    """Control: that every label occurs is no accident."""
    monkeypatch.setattr(random_model, "_spread_logits", lambda *_: None)
    make(tokenizer, tmp_path / "a", num_labels=6)

    assert len(set(logits_of(tmp_path / "a").argmax(axis=1))) < 6


@pytest.mark.parametrize("config", [{"problem_type": "multi_label_classification", "num_labels": 4}, {"num_labels": 1}])
def test_logits_of_other_problems_are_centred_and_wide(tokenizer, tmp_path, config):
    make(tokenizer, tmp_path / "a", **config)

    logits = logits_of(tmp_path / "a")
    assert np.abs(logits.mean(axis=0)).max() < 0.2
    assert (logits.std(axis=0) > 0.5).all()
    assert logits.std(axis=0).max() > 1


def test_too_many_labels_are_refused(tokenizer, tmp_path):
    with pytest.raises(ModelError, match="makes all 40 labels occur in 32 texts"):
        make(tokenizer, tmp_path / "a", num_labels=40)


def test_a_vocabulary_that_is_smaller_than_the_tokenizers_is_refused(tokenizer, tmp_path):
    with pytest.raises(ModelError, match="vocab_size is 100; allowed:"):
        make(tokenizer, tmp_path / "a", vocab_size=100)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_labels": 0}, "num_labels is 0"),
        ({"num_labels": "x"}, "cannot make this configuration"),
        ({"id2label": {}}, "num_labels is 0"),
        ({"problem_type": []}, r"problem_type is \[\]"),
        ({"initializer_range": [1]}, "cannot make this configuration"),
        ({"num_hidden_layers": 0}, "makes all 2 labels occur"),
    ],
)
def test_a_configuration_that_makes_no_classifier_is_refused(tokenizer, tmp_path, config, message):
    with pytest.raises(ModelError, match=message) as caught:
        make(tokenizer, tmp_path / "a", **config)
    assert caught.value.mend


def test_an_unknown_architecture_is_refused(tokenizer, tmp_path):
    with pytest.raises(ModelError, match="berd"):
        make(tokenizer, tmp_path / "a", model_type="berd")


def test_a_task_that_the_architecture_does_not_have_is_refused(tokenizer, tmp_path):
    with pytest.raises(ModelError, match="has no text-classification model"):
        make(tokenizer, tmp_path / "a", model_type="bert-generation")
