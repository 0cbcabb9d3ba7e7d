from __future__ import annotations

import json
from typing import Any

import pytest

from builder.config import compose, rules, rules_ensemble
from builder.config.host import Host
from builder.errors import InternalError, UserError

INPUT = {"name": "input_ids", "data_type": "TYPE_INT64", "dims": [-1]}
TEXT = {"name": "TEXT", "data_type": "TYPE_STRING", "dims": [1]}
OUTPUT = {"name": "OUT", "data_type": "TYPE_FP32", "dims": [4]}
MODEL: dict[str, Any] = {
    "name": "m-model",
    "backend": "onnxruntime",
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
    return compose.merge(MODEL, fields)


def python(**fields: Any) -> dict[str, Any]:
    """A model of another backend, with what onnxruntime does not take."""
    return changed(backend="python", parameters={}, **fields)


def warm(**fields: Any) -> dict[str, Any]:
    return {"model_warmup": [compose.merge(WARM, {"inputs": {"input_ids": fields}})]}


def shaped(**fields: Any) -> dict[str, Any]:
    return {"input": [{**INPUT, **fields}]}


def sequence(**fields: Any) -> dict[str, Any]:
    return {"sequence_batching": fields}


def control(*controls: dict[str, Any]) -> dict[str, Any]:
    return sequence(control_input=[{"name": "C", "control": list(controls)}])


def state(**initial: Any) -> dict[str, Any]:
    begin = {"name": "i", "data_type": "TYPE_FP32", "dims": [2], "zero_data": True, **initial}
    names = {"input_name": "S", "output_name": "T"}
    return sequence(state=[{**names, "data_type": "TYPE_FP32", "dims": [-1], "initial_state": [begin]}])


def metric(**options: Any) -> dict[str, Any]:
    return {"model_metrics": {"metric_control": [options]}}


def limited(*scopes: bool) -> dict[str, Any]:
    resources = [{"name": "R", "global": scope} for scope in scopes]
    return {"instance_group": [{"rate_limiter": {"resources": resources}}]}


START = {"kind": "CONTROL_SEQUENCE_START", "fp32_false_true": [0, 1]}
RAGGED = {"input": [{**INPUT, "allow_ragged_batch": True}]}
ENDS = {"kind": "BATCH_ELEMENT_COUNT", "target_name": ["E"], "data_type": "TYPE_FP32", "source_input": ["input_ids"]}
POOLED = {"target_name": ["OUT"], "kind": "BATCH_SCATTER_WITH_INPUT_SHAPE", "source_input": ["input_ids"]}
FILE = {"name": "w", "batch_size": 8, "inputs": {"input_ids": {"data_type": "TYPE_INT64", "dims": [4]}}}
BUCKETS = {"metric_identifier": {"family": "f"}, "histogram_options": {"buckets": [1, 2]}}

ONE_LEVEL = {"priority_levels": 1, "default_priority_level": 1}

HOST = Host(model_files=frozenset({"model.onnx"}), sizes={"warmup/f": 32, "initial_state/f": 8})

GOOD = [
    {},
    {"dynamic_batching": {"preferred_batch_size": [1, 8], "priority_levels": 2, "default_priority_level": 2}},
    {"dynamic_batching": {"preserve_ordering": True, "default_queue_policy": {"timeout_action": "DELAY"}}},
    {"dynamic_batching": {**ONE_LEVEL, "priority_queue_policy": {"1": {"max_queue_size": 4}}}},
    {"instance_group": [{"count": 3, "kind": "KIND_CPU"}, {"passive": True}]},
    limited(True, True),
    {"version_policy": {"specific": {"versions": [1, 7]}}},
    {"parameters": {"execution_mode": {"string_value": "1"}, "enable_mem_arena": {"string_value": "0"}}},
    {"optimization": {"execution_accelerators": {"cpu_execution_accelerator": [{"name": "openvino"}]}}},
    {"model_warmup": [WARM]},
    warm(data_type="TYPE_INT64", dims=[4], input_data_file="f"),
    metric(**BUCKETS),
    {"cc_model_filenames": {"8.9": "model.onnx"}, "runtime": "libtriton_x.so"},
    {"model_repository_agents": {"agents": [{"name": "checksum"}]}},
    shaped(dims=[1], reshape={}),
    shaped(dims=[4, -1, 6], reshape={"shape": [2, 2, -1, 2, 3]}),
    shaped(dims=[3, 8, 8], format="FORMAT_NCHW"),
    {**RAGGED, "batch_input": [ENDS], "batch_output": [POOLED]},
]


@pytest.mark.parametrize("fields", GOOD)
def test_what_triton_takes_passes(fields: dict[str, Any]) -> None:
    assert list(rules.problems(changed(**fields), HOST)) == []


@pytest.mark.parametrize(
    "fields",
    [
        control(START, {"kind": "CONTROL_SEQUENCE_CORRID", "data_type": "TYPE_STRING"}),
        sequence(direct={"minimum_slot_utilization": 0.5}),
        state(),
        state(data_file="f", zero_data=False),
        {"model_transaction_policy": {"decoupled": True}},
        shaped(optional=True) | {"model_warmup": [{"name": "w", "batch_size": 1}]},
        {**warm(random_data=True)},
    ],
)
def test_what_other_backends_take_passes(fields: dict[str, Any]) -> None:
    config = python(**fields)
    if "sequence_batching" in fields:
        del config["dynamic_batching"]
    assert list(rules.problems(config, HOST)) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"dynamic_batching": {"preferred_batch_size": [4, 9]}},
            r"size\.1: is 9; allowed: 1 to max_batch_size, which is 8",
        ),
        ({"dynamic_batching": {"preferred_batch_size": [0]}}, r"preferred_batch_size\.0: is 0; allowed: 1 to"),
        ({"dynamic_batching": {"priority_levels": 2}}, "default_priority_level: is 0; allowed: 1 to priority_levels"),
        ({"dynamic_batching": {"default_priority_level": 1}}, "default_priority_level: needs priority_levels"),
        (
            {
                "dynamic_batching": {
                    "priority_levels": 1,
                    "default_priority_level": 1,
                    "priority_queue_policy": {"2": {}},
                }
            },
            r"priority_queue_policy\.2: there is no priority 2; allowed: 1 to priority_levels, which is 1",
        ),
        (
            {"dynamic_batching": {"priority_levels": 2, "default_priority_level": 1, "preserve_ordering": True}},
            "preserve_ordering: excludes more than one of priority_levels",
        ),
        (
            {
                "dynamic_batching": {
                    "preserve_ordering": True,
                    "default_queue_policy": {"timeout_action": "DELAY", "default_timeout_microseconds": 1},
                }
            },
            r"default_queue_policy\.timeout_action: DELAY is excluded by preserve_ordering",
        ),
        ({"instance_group": [{"kind": "KIND_GPU"}]}, r"group\.0\.kind: is KIND_GPU, but the target has no GPU"),
        ({"instance_group": [{}, {"gpus": [0]}]}, r"instance_group\.1\.gpus: is set"),
        ({"instance_group": [{"profile": ["0"]}]}, r"0\.profile: is set, but only the tensorrt backend takes it"),
        ({"instance_group": [{"secondary_devices": [{}]}]}, "secondary_devices: is set, but only the tensorrt"),
        ({"instance_group": [{"count": 0}]}, r"0\.count: is 0; allowed: 1 or more"),
        ({"instance_group": [{"passive": True}]}, "all groups are passive"),
        (limited(True, False), r"resources\.1\.global: the resource 'R' cannot be both global and of each device"),
        ({"instance_group": [{"rate_limiter": {"resources": [{}]}}]}, "a resource needs a name"),
        ({"version_policy": {"specific": {"versions": [2]}}}, "the repository holds version 1 alone"),
        ({"version_policy": {"specific": {}}}, "the repository holds version 1 alone"),
        ({"version_policy": {"latest": {"num_versions": 0}}}, "num_versions: must be 1 or more"),
        ({"model_transaction_policy": {"decoupled": True}}, "answers each request once"),
        (sequence(), "dynamic_batching and sequence_batching exclude each other"),
        ({"model_metrics": {"metric_control": [{}]}}, r"control\.0: needs metric_identifier\.family"),
        (metric(**{**BUCKETS, "histogram_options": {}}), r"needs histogram_options\.buckets"),
        (metric(**{**BUCKETS, "histogram_options": {"buckets": [2, 1]}}), r"buckets: must be in ascending order"),
        ({"model_repository_agents": {"agents": [{}]}}, "an agent needs a name"),
        ({"cc_model_filenames": {"89": "model.onnx"}}, "'89' is no compute capability"),
        ({"cc_model_filenames": {"8.9": "l4.onnx"}}, "has no file 'l4.onnx'; it has: model.onnx"),
        ({"runtime": "../x.so"}, r"runtime: is '\.\./x\.so'; allowed: the name of a file"),
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
            "gpu_execution_accelerator: is set, but the target has no GPU",
        ),
        (
            {"optimization": {"execution_accelerators": {"cpu_execution_accelerator": [{"name": "onednn"}]}}},
            "accelerator 'onednn'; allowed: openvino",
        ),
        ({"model_warmup": [{"name": "w", "batch_size": 1}]}, r"has the inputs \[\]; the model has \['input_ids'\]"),
        ({"model_warmup": [{**WARM, "batch_size": 0}]}, "batch_size: is 0; allowed: 1 to max_batch_size, which is 8"),
        ({"model_warmup": [{**WARM, "batch_size": 9}]}, "batch_size: is 9; allowed: 1 to max_batch_size"),
        ({"model_warmup": [FILE]}, "needs one of zero_data, random_data, input_data_file"),
        (warm(dims=[-1]), "dims: must all be 1 or more"),
        (warm(dims=[]), "dims: must all be 1 or more"),
        (warm(dims=[1, 4]), r"dims: is \[1, 4\]; the model takes \[-1\]"),
        (warm(data_type="TYPE_INT32"), "is TYPE_INT32; the model takes TYPE_INT64"),
        (warm(random_data=True), "random bytes are no token ids"),
        (warm(input_data_file="g"), "'g' is not in the repository: only what serving.model_warmup itself names"),
        (warm(input_data_file="f", dims=[5]), r"'f' holds 32 bytes; TYPE_INT64 \[5\] needs 40"),
        (shaped(dims=[0]), r"input\.0\.dims: is \[0\]; allowed: sizes from 1"),
        (shaped(dims=[]), r"input\.0\.dims: is \[\]; allowed"),
        (shaped(dims=[4], reshape={"shape": [3]}), r"reshape: cannot make \[3\] of \[4\]"),
        (shaped(dims=[-1], reshape={"shape": [-1, -1]}), "both must have the same number of values"),
        (shaped(dims=[4], format="FORMAT_NHWC"), r"format: is FORMAT_NHWC, which needs 3 dims; got \[4\]"),
        (shaped(is_shape_tensor=True), "is_shape_tensor: is set, but only TensorRT engines"),
        (shaped(optional=True), "takes optional inputs only of models without a batch axis"),
        ({"batch_input": [{**ENDS, "source_input": ["x"]}]}, "source_input: 'x' is no input; there is: input_ids"),
        ({"batch_input": [{**ENDS, "source_input": []}]}, "source_input: needs exactly one input; got 0"),
        ({"batch_input": [{**ENDS, "target_name": []}]}, "target_name: needs at least one name"),
        ({"batch_input": [{**ENDS, "data_type": "TYPE_INT64"}]}, "data_type: allowed: TYPE_INT32, TYPE_FP32"),
        ({"batch_output": [POOLED, POOLED]}, "'OUT' must be an output, and be there once"),
    ],
)
def test_what_triton_would_refuse_is_refused_first(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"^serving\..*{message}"):
        rules.check_config(changed(**fields), "serving", HOST)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (sequence() | {"response_cache": {"enable": True}}, "with sequence_batching cannot be cached"),
        (sequence(oldest={"preferred_batch_size": [9]}), "is 9; allowed: 1 to max_batch_size"),
        (sequence(direct={"minimum_slot_utilization": 2}), "is 2; allowed: a share from 0 to 1"),
        (sequence(control_input=[{}]), r"control_input\.0\.name: must name an input of the graph"),
        (sequence(control_input=[{"name": "C"}, {"name": "C"}]), r"control_input\.1\.name: 'C' is there twice"),
        (control(START, START), "CONTROL_SEQUENCE_START is there twice"),
        (control({"kind": "CONTROL_SEQUENCE_END"}), "CONTROL_SEQUENCE_END needs exactly one of int32_false_true"),
        (control({**START, "bool_false_true": [False, True]}), "needs exactly one of"),
        (control({**START, "fp32_false_true": [1]}), "must hold the value for false and the one for true"),
        (control({**START, "kind": "CONTROL_SEQUENCE_CORRID"}), "CONTROL_SEQUENCE_CORRID has no fp32_false_true"),
        (control({"kind": "CONTROL_SEQUENCE_CORRID", "data_type": "TYPE_FP32"}), "data_type: allowed: TYPE_INT32"),
        (state(data_type="TYPE_INT32"), "must be the state's, TYPE_FP32"),
        (state(name=""), "needs a name"),
        (state(dims=[-1]), r"is \[-1\]; must be a fixed shape that fits the state's, \[-1\]"),
        (state(data_file="f", dims=[3]), "'f' holds 8 bytes; TYPE_FP32 .3. needs 12"),
        (state(data_file="g"), "'g' is not in the repository: only what serving.sequence_batching itself names"),
        (sequence(state=[{"input_name": "S"}]), "needs output_name"),
    ],
)
def test_what_triton_would_refuse_of_sequences(fields: dict[str, Any], message: str) -> None:
    config = python(**fields)
    del config["dynamic_batching"]
    with pytest.raises(UserError, match=rf"^serving\..*{message}"):
        rules.check_config(config, "serving", HOST)


def test_a_decoupled_model_is_not_cached() -> None:
    fields = {"response_cache": {"enable": True}, "model_transaction_policy": {"decoupled": True}}
    with pytest.raises(UserError, match="answers of a decoupled model cannot be cached"):
        rules.check_config(python(**fields), "serving")


def test_a_gpu_takes_gpus() -> None:
    group = {"kind": "KIND_GPU", "gpus": [0], "profile": ["0"]}
    config = {**changed(backend="tensorrt", instance_group=[group]), "parameters": {}}
    assert list(rules.problems(config, Host(gpu=True))) == []
    for fields, message in (
        ({"kind": "KIND_CPU"}, "gpus: is set, but kind is KIND_CPU, which has none"),
        ({"kind": "KIND_CPU", "gpus": []}, "a TensorRT engine runs on a GPU alone"),
        ({"gpus": [-1]}, "allowed: CUDA indexes"),
        ({"profile": ["one"]}, "is 'one'; allowed: the index of a profile"),
    ):
        with pytest.raises(UserError, match=message):
            rules.check_config({**config, "instance_group": [{**group, **fields}]}, "serving", Host(gpu=True))


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
RELEASE = "25.09"
MODELS: dict[str, Any] = {
    "m-tokenize": {"name": "m-tokenize", "max_batch_size": 8, "input": [TEXT], "output": [INPUT]},
    "m-model": MODEL,
}


def test_an_ensemble_that_fits_passes() -> None:
    rules_ensemble.check_ensemble(ENSEMBLE, MODELS, RELEASE)


def first_step(ensemble: dict[str, Any]) -> dict[str, Any]:
    step: dict[str, Any] = ensemble["ensemble_scheduling"]["step"][0]
    return step


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda e, m: e.update(platform="python"), "the platform must be 'ensemble'"),
        (lambda e, m: e.update(backend="ensemble"), "the platform must be 'ensemble', without a backend"),
        (lambda e, m: e.update(instance_group=[{}]), "instance_group in an ensemble"),
        (lambda e, m: e.update(model_warmup=[{}]), "model_warmup in an ensemble"),
        (lambda e, m: first_step(e).update(model_name="other"), "step 'other' is no model of the repository"),
        (lambda e, m: first_step(e).pop("model_version"), "step 'm-tokenize' needs model_version -1"),
        (lambda e, m: first_step(e).update(model_version=2), "needs model_version -1"),
        (lambda e, m: m["m-model"].update(max_batch_size=4), "max_batch_size is 8, but 'm-model' takes 4"),
        (lambda e, m: first_step(e).update(input_map={}), "a step without input_map"),
        (lambda e, m: first_step(e)["input_map"].update(TEXT="OTHER"), "input 'TEXT' is in no step's map"),
        (lambda e, m: first_step(e)["output_map"].update(more="more"), "tensor 'more' is never used"),
        (lambda e, m: first_step(e)["output_map"].update(input_ids="TEXT"), "output 'OUT' cannot be made"),
        (
            lambda e, m: m["m-tokenize"]["output"][0].update(data_type="TYPE_INT32"),
            "input 'input_ids' of 'm-model', tensor 'input_ids': TYPE_INT64, but 'm-tokenize' has TYPE_INT32",
        ),
        (lambda e, m: m["m-model"]["input"][0].update(dims=[-1, -1]), r"shape \[-1, -1, -1\], but"),
        (lambda e, m: e["output"].append({**OUTPUT, "name": "MORE"}), "output 'MORE' is in no step's map"),
        (lambda e, m: e["output"][0].update(dims=[5]), "output 'OUT' of 'm-model', tensor 'OUT': shape"),
        (lambda e, m: e.update(output=[]), "tensor 'OUT' is never used"),
        (lambda e, m: e["input"].append({**TEXT, "name": "MORE"}), "input 'MORE' is in no step's map"),
    ],
)
def test_an_ensemble_that_does_not_fit_is_a_bug(damage: Any, message: str) -> None:
    ensemble, made = json.loads(json.dumps([ENSEMBLE, MODELS]))  # unlike deepcopy: nothing is shared
    damage(ensemble, made)
    with pytest.raises(InternalError, match=f"^m: .*{message}"):
        rules_ensemble.check_ensemble(ensemble, made, RELEASE)


def test_a_wildcard_fits_any_size() -> None:
    made = json.loads(json.dumps(MODELS))
    made["m-model"]["input"][0]["dims"] = [16]
    rules_ensemble.check_ensemble(ENSEMBLE, made, RELEASE)
