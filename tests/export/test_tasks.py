"""How a model does a task, read from its JSON files."""

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
        ({"num_labels": None}, "num_labels is None; allowed: a whole number from 1"),
        ({"num_labels": "x"}, "num_labels is 'x'"),
        ({"num_labels": 10**12}, "num_labels is 1000000000000"),
        ({"problem_type": []}, r"problem_type is \[\]; allowed: single_label_classification"),
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


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "mean", "x", "multi"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["0", "1", "x"]), inner, max_size=2),
    max_leaves=4,
)
CONFIGS = st.dictionaries(
    st.sampled_from(["num_labels", "id2label", "problem_type", "architectures", "is_causal", "quantization_config"]),
    VALUES,
)
SETTINGS = st.dictionaries(st.sampled_from(["prompts", "default_prompt_name", "truncate_dim", "model_type"]), VALUES)
POOLINGS = st.dictionaries(st.sampled_from(["pooling_mode", "include_prompt", "pooling_mode_cls_token"]), VALUES)
MODULES = [{"path": path, "type": f"sentence_transformers.models.{path or 'Transformer'}"} for path in ("", "Pooling")]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CONFIGS, SETTINGS, POOLINGS, VALUES)
def test_whatever_the_files_hold_a_refusal_is_a_refusal(tmp_path, config, model_settings, pooling, module):
    (tmp_path / "Pooling").mkdir(exist_ok=True)
    write_json(tmp_path / "config.json", config)
    for modules in (None, MODULES, [*MODULES, module]):
        (tmp_path / "modules.json").unlink(missing_ok=True)
        if modules:
            write_json(tmp_path / "modules.json", modules)
            write_json(tmp_path / "config_sentence_transformers.json", model_settings)
            write_json(tmp_path / "Pooling/config.json", pooling)
        for task in (TASK, "sentence-embedding"):
            with contextlib.suppress(ModelError):
                read_head(describe_folder(tmp_path), task)


@pytest.mark.parametrize("architectures", [5, "BertForCausalLM", {"0": "x"}])
def test_architectures_that_are_no_list_are_refused(tmp_path, architectures):
    write_json(tmp_path / "config.json", {"architectures": architectures})

    with pytest.raises(ModelError, match=r"architectures is .*; allowed: a list of names"):
        read_head(describe_folder(tmp_path), "sentence-embedding")


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json: the model has no such file"):
        read_head(describe_folder(tmp_path), TASK)
