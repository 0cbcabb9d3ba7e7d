"""How a model does a task, read from its JSON files."""

import pytest

from builder.core.digest import describe_folder
from builder.errors import ModelError
from builder.export.tasks import read_head
from builder.tools.heads import Classify
from tests.models import write_json

TASK = "text-classification"


def head(tmp_path, **config):
    write_json(tmp_path / "config.json", {"model_type": "bert", **config})
    return read_head(describe_folder(tmp_path), TASK)


@pytest.mark.parametrize(
    ("config", "metric", "activation"),
    [
        ({}, "single-label", "softmax"),
        ({"num_labels": 5}, "single-label", "softmax"),
        ({"num_labels": 1}, "regression", ""),
        ({"num_labels": 3, "problem_type": "regression"}, "regression", ""),
        ({"problem_type": "multi_label_classification"}, "multi-label", "sigmoid"),
        ({"problem_type": "single_label_classification"}, "single-label", "softmax"),
    ],
)
def test_the_problem_decides_the_outputs(tmp_path, config, metric, activation):
    read = head(tmp_path, **config)

    assert (read.metric, read.steps) == (metric, (Classify(activation),))
    assert read.outputs == (("LOGITS", "PROBABILITIES") if activation else ("LOGITS",))


def test_labels_are_in_the_order_of_the_logits(tmp_path):
    names = {str(index): f"label {index}" for index in reversed(range(12))}

    assert head(tmp_path, id2label=names).labels == tuple(f"label {index}" for index in range(12))
    assert head(tmp_path, num_labels=2).labels == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"problem_type": "ranking"}, "'ranking'; allowed: single_label_classification"),
        ({"problem_type": "single_label_classification", "num_labels": 1}, "always 1"),
        ({"id2label": {"1": "a", "2": "b"}}, "no number '0'"),
        ({"quantization_config": {"bits": 4}}, "quantised weights"),
    ],
)
def test_what_cannot_be_served_is_refused(tmp_path, config, message):
    with pytest.raises(ModelError, match=message):
        head(tmp_path, **config)


def test_an_adapter_is_refused(tmp_path):
    write_json(tmp_path / "adapter_config.json", {})

    with pytest.raises(ModelError, match="adapter"):
        head(tmp_path)


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json: the model has no such file"):
        read_head(describe_folder(tmp_path), TASK)
