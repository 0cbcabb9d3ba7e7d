from __future__ import annotations

import json
from typing import Any

import pytest

from builder.config import models, rules
from builder.errors import InternalError, UserError

INPUT = {"name": "input_ids", "data_type": "TYPE_INT64", "dims": [-1]}
TEXT = {"name": "TEXT", "data_type": "TYPE_STRING", "dims": [1]}
OUTPUT = {"name": "OUT", "data_type": "TYPE_FP32", "dims": [4]}
MODEL: dict[str, Any] = {
    "name": "m-model",
    "max_batch_size": 8,
    "input": [INPUT],
    "output": [OUTPUT],
    "instance_group": [{"count": 1, "kind": "KIND_AUTO"}],
    "dynamic_batching": {},
    "parameters": {"intra_op_thread_count": {"string_value": "2"}},
}
WARM = {
    "name": "w",
    "batch_size": 1,
    "inputs": {"input_ids": {"data_type": "TYPE_INT64", "dims": [4], "zero_data": True}},
}


def changed(**fields: Any) -> dict[str, Any]:
    return models.merge(MODEL, fields)


def warm(**fields: Any) -> dict[str, Any]:
    return {"model_warmup": [models.merge(WARM, {"inputs": {"input_ids": fields}})]}


GOOD = [
    {},
    {"dynamic_batching": {"preferred_batch_size": [1, 8], "priority_levels": 2, "default_priority_level": 2}},
    {"dynamic_batching": {"preserve_ordering": True, "default_queue_policy": {"timeout_action": "REJECT"}}},
    {"instance_group": [{"count": 3, "kind": "KIND_CPU"}]},
    {"version_policy": {"specific": {"versions": [1]}}},
    {"parameters": {"execution_mode": {"string_value": "1"}, "enable_mem_arena": {"string_value": "0"}}},
    {"optimization": {"execution_accelerators": {"cpu_execution_accelerator": [{"name": "openvino"}]}}},
    {"model_warmup": [WARM]},
]


@pytest.mark.parametrize("fields", GOOD)
def test_what_triton_takes_passes(fields: dict[str, Any]) -> None:
    rules.check_model(changed(**fields), "serving")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dynamic_batching": {"preferred_batch_size": [4, 9]}}, "holds 9; allowed: 1 to max_batch_size, which is 8"),
        ({"dynamic_batching": {"preferred_batch_size": [0]}}, "holds 0; allowed: 1 to"),
        ({"dynamic_batching": {"priority_levels": 2}}, "default_priority_level is 0; allowed: 1 to priority_levels"),
        (
            {"dynamic_batching": {"priority_levels": 2, "default_priority_level": 1, "preserve_ordering": True}},
            "preserve_ordering and more than one of priority_levels exclude each other",
        ),
        (
            {"dynamic_batching": {"preserve_ordering": True, "default_queue_policy": {"timeout_action": "DELAY"}}},
            "preserve_ordering and a queue policy with DELAY",
        ),
        (
            {"instance_group": [{"kind": "KIND_GPU"}]},
            r"instance_group\[0\]\.kind is KIND_GPU, but the target has no GPU",
        ),
        ({"instance_group": [{}, {"gpus": [0]}]}, r"instance_group\[1\]\.gpus is set"),
        ({"instance_group": [{"profile": ["0"]}]}, "profiles are TensorRT's alone"),
        ({"instance_group": [{"count": 0}]}, r"count is 0; allowed: 1 or more"),
        ({"version_policy": {"specific": {"versions": [2]}}}, "the repository holds version 1 alone"),
        ({"version_policy": {"specific": {}}}, "the repository holds version 1 alone"),
        ({"version_policy": {"latest": {"num_versions": 0}}}, "num_versions must be 1 or more"),
        ({"model_transaction_policy": {"decoupled": True}}, "answers each request once"),
        ({"parameters": {"intra_op_threads": {"string_value": "1"}}}, "did you mean 'intra_op_thread_count'"),
        ({"parameters": {"intra_op_thread_count": {"string_value": "two"}}}, "is 'two'; allowed: a whole number"),
        ({"parameters": {"inter_op_thread_count": {"string_value": "-1"}}}, "is '-1'; allowed: a whole number"),
        ({"parameters": {"execution_mode": {"string_value": "2"}}}, "is '2'; allowed: 0, 1"),
        (
            {"parameters": {"session.intra_op.allow_spinning": {"string_value": "0"}}},
            "the onnxruntime backend reads only",
        ),
        (
            {"optimization": {"execution_accelerators": {"gpu_execution_accelerator": [{"name": "tensorrt"}]}}},
            "gpu_execution_accelerator is set, but the target has no GPU",
        ),
        (
            {"optimization": {"execution_accelerators": {"cpu_execution_accelerator": [{"name": "onednn"}]}}},
            "accelerator 'onednn'; allowed on a CPU: openvino",
        ),
        ({"model_warmup": [{"name": "w"}]}, r"model_warmup 'w': has the inputs \[\]; the model has \['input_ids'\]"),
        (warm(dims=[-1]), "needs dims that are all 1 or more"),
        (warm(dims=[]), "needs dims that are all 1 or more"),
        (warm(data_type="TYPE_INT32"), "input_ids is TYPE_INT32; the model takes TYPE_INT64"),
        (warm(random_data=True), "random bytes are no token ids"),
    ],
)
def test_what_triton_would_refuse_is_refused_first(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^serving: .*{message}"):
        rules.check_model(changed(**fields), "serving")


@pytest.mark.parametrize("field", sorted(rules.DERIVED))
def test_what_the_build_derives_cannot_be_set(field: str) -> None:
    with pytest.raises(UserError, match=rf"^serving\.config\.{field}: cannot be set here: it follows from"):
        rules.check_raw({field: 1}, "serving.config")
    rules.check_raw({"optimization": {}}, "serving.config")


ENSEMBLE: dict[str, Any] = {
    "name": "m",
    "platform": "ensemble",
    "max_batch_size": 8,
    "input": [TEXT],
    "output": [OUTPUT],
    "ensemble_scheduling": {
        "step": [
            {
                "model_name": "m-tokenize",
                "model_version": -1,
                "input_map": {"TEXT": "TEXT"},
                "output_map": {"input_ids": "input_ids"},
            },
            {
                "model_name": "m-model",
                "model_version": -1,
                "input_map": {"input_ids": "input_ids"},
                "output_map": {"OUT": "OUT"},
            },
        ]
    },
}
MODELS: dict[str, Any] = {
    "m-tokenize": {"name": "m-tokenize", "max_batch_size": 8, "input": [TEXT], "output": [INPUT]},
    "m-model": MODEL,
}


def test_an_ensemble_that_fits_passes() -> None:
    rules.check_ensemble(ENSEMBLE, MODELS)


def first_step(ensemble: dict[str, Any]) -> dict[str, Any]:
    step: dict[str, Any] = ensemble["ensemble_scheduling"]["step"][0]
    return step


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda e, m: e.update(platform="python"), "the platform must be 'ensemble'"),
        (lambda e, m: e.update(backend="ensemble"), "the platform must be 'ensemble', without a backend"),
        (lambda e, m: e.update(instance_group=[]), "instance_group is not for ensembles"),
        (lambda e, m: e.update(model_warmup=[]), "model_warmup is not for ensembles"),
        (lambda e, m: first_step(e).update(model_name="other"), "step 'other' is no model of the repository"),
        (lambda e, m: first_step(e).pop("model_version"), "step 'm-tokenize' needs model_version -1"),
        (lambda e, m: first_step(e).update(model_version=2), "needs model_version -1"),
        (lambda e, m: m["m-model"].update(max_batch_size=4), "allows a batch of 8, but 'm-model' only of 4"),
        (lambda e, m: first_step(e).update(input_map={}), r"maps the inputs \[\]; the model has \['TEXT'\]"),
        (lambda e, m: first_step(e)["input_map"].update(TEXT="OTHER"), "takes 'OTHER', which nothing before it makes"),
        (lambda e, m: e["ensemble_scheduling"]["step"].reverse(), "takes 'input_ids', which nothing before it makes"),
        (lambda e, m: first_step(e)["output_map"].update(more="more"), "step 'm-tokenize' has no output 'more'"),
        (lambda e, m: first_step(e)["output_map"].update(input_ids="TEXT"), "'TEXT' is made twice"),
        (
            lambda e, m: m["m-tokenize"]["output"][0].update(data_type="TYPE_INT32"),
            "'input_ids' does not fit its input 'input_ids'",
        ),
        (lambda e, m: m["m-model"]["input"][0].update(dims=[-1, -1]), "does not fit"),
        (lambda e, m: e["output"].append({**OUTPUT, "name": "MORE"}), "no step makes the output 'MORE'"),
        (lambda e, m: e["output"][0].update(dims=[5]), "the output 'OUT' is not what its step makes"),
        (lambda e, m: e.update(output=[]), "nothing uses 'OUT'"),
        (lambda e, m: e["input"].append({**TEXT, "name": "MORE"}), "nothing uses 'MORE'"),
    ],
)
def test_an_ensemble_that_does_not_fit_is_a_bug(damage: Any, message: str) -> None:
    ensemble, made = json.loads(json.dumps([ENSEMBLE, MODELS]))  # unlike deepcopy: nothing is shared
    damage(ensemble, made)
    with pytest.raises(InternalError, match=f"^m: .*{message}"):
        rules.check_ensemble(ensemble, made)


def test_a_wildcard_fits_any_size() -> None:
    made = json.loads(json.dumps(MODELS))
    made["m-model"]["input"][0]["dims"] = [16]
    rules.check_ensemble(ENSEMBLE, made)
