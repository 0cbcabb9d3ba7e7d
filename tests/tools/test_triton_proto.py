from __future__ import annotations

import subprocess
import sys

import jsonschema
import pytest

from builder.errors import UserError
from builder.tools import triton_proto
from builder.tools.triton_fields import FIRST_RELEASE, knows

RELEASE = "25.09"
CONFIG = {
    "name": "m",
    "backend": "onnxruntime",
    "max_batch_size": 8,
    "input": [{"name": "input_ids", "data_type": "TYPE_INT64", "dims": [-1]}],
    "output": [{"name": "OUT", "data_type": "TYPE_FP32", "dims": [4]}],
    "version_policy": {"all": {}},
    "instance_group": [{"count": 2, "kind": "KIND_CPU"}],
    "dynamic_batching": {"max_queue_delay_microseconds": 2**40, "preserve_ordering": True},
    "parameters": {"b": {"string_value": "1"}, "a": {"string_value": 'é "quoted" \\ '}},
    "optimization": {"graph": {"level": 1}, "priority": "PRIORITY_MAX"},
}


def test_json_text_and_message_say_the_same() -> None:
    message = triton_proto.build(CONFIG, release=RELEASE)
    text = triton_proto.to_text(message)
    parsed = triton_proto.parse_text(text, place="config.pbtxt")
    assert parsed == message
    assert triton_proto.to_text(parsed) == text
    assert triton_proto.to_json(parsed) == CONFIG


def test_a_number_without_a_name_is_shown_and_refused() -> None:
    data = triton_proto.to_json(triton_proto.parse_text("input { data_type: 99 format: 1 }", place="x"))
    assert data == {"input": [{"data_type": "99", "format": "FORMAT_NHWC"}]}
    with pytest.raises(UserError, match=r"^x\.input\[0\]\.data_type"):
        triton_proto.check(data, release=RELEASE, place="x")


def test_the_text_is_what_a_server_reads() -> None:
    text = triton_proto.to_text(triton_proto.build({"platform": "ensemble", "dynamic_batching": {}}, release=RELEASE))
    assert text == 'platform: "ensemble"\ndynamic_batching {\n}\n'


def test_order_of_keys_does_not_show() -> None:
    turned = dict(reversed(CONFIG.items())) | {"parameters": dict(reversed(CONFIG["parameters"].items()))}
    texts = {triton_proto.to_text(triton_proto.build(data, release=RELEASE)) for data in (CONFIG, turned)}
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("data", "message", "mend"),
    [
        (
            {"max_batch_sise": 1},
            r"^x\.max_batch_sise: Triton's ModelConfig has no field",
            "did you mean 'max_batch_size'",
        ),
        ({"maxBatchSize": 1}, r"^x\.maxBatchSize: Triton's ModelConfig has no field", "did you mean 'max_batch_size'"),
        ({"zzz": 1}, r"^x\.zzz: .* it has: name, platform,", "leave it out"),
        (
            {"dynamic_batching": {"max_queue_delay": 1}},
            r"^x\.dynamic_batching\.max_queue_delay: Triton's ModelDynamicBatching",
            "'max_queue_delay_microseconds'",
        ),
        ({"instance_group": [{}, {"cont": 1}]}, r"^x\.instance_group\[1\]\.cont: ", "did you mean 'count'"),
        (
            {"instance_group": [{"kind": "kind_cpu"}]},
            r"^x\.instance_group\[0\]\.kind: 'kind_cpu' is not .* allowed: KIND_AUTO, KIND_GPU, KIND_CPU, KIND_MODEL",
            "did you mean 'KIND_CPU'",
        ),
        ({"parameters": {"a": {"value": "1"}}}, r"^x\.parameters\.a\.value: .* it has: string_value", "leave it out"),
        ({"max_batch_size": "8"}, r"^x\.max_batch_size: must be a whole number from -2147483648 .* got '8'", ""),
        ({"max_batch_size": True}, r"^x\.max_batch_size: must be a whole number .* got True", ""),
        ({"max_batch_size": 2**31}, r"^x\.max_batch_size: must be a whole number", ""),
        ({"name": 1}, r"^x\.name: must be a string, got 1", ""),
        ({"response_cache": {"enable": "yes"}}, r"^x\.response_cache\.enable: must be true or false, got 'yes'", ""),
        ({"response_cache": [1]}, r"^x\.response_cache: must be a mapping of ModelResponseCache", ""),
        ({"input": {}}, r"^x\.input: must be a list, got \{\}", ""),
        ({"parameters": [1]}, r"^x\.parameters: must be a mapping, got \[1\]", ""),
        (
            {"dynamic_batching": {"priority_queue_policy": {"one": {}}}},
            r"^x\.dynamic_batching\.priority_queue_policy: must be a mapping whose keys are whole numbers .* got 'one'",
            "",
        ),
        (
            {"dynamic_batching": {"priority_queue_policy": {str(2**64): {}}}},
            r"^x\.dynamic_batching\.priority_queue_policy: .* from 0 to 18446744073709551615, got '184467440737095516",
            "",
        ),
        (
            {"sequence_batching": {"direct": {"minimum_slot_utilization": 1e39}}},
            r"^x\.sequence_batching\.direct\.minimum_slot_utilization: must be a number within ±3\.4028235e\+38",
            "",
        ),
        (
            {"dynamic_batching": {}, "sequence_batching": {}},
            r"^x: dynamic_batching and sequence_batching exclude each other",
            "keep one of scheduling_choice",
        ),
        ([], r"^x: must be a mapping of ModelConfig", ""),
    ],
)
def test_what_is_wrong_is_named_with_its_place(data: object, message: str, mend: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        triton_proto.check(data, release=RELEASE, place="x")
    assert mend in caught.value.mend


def test_what_is_right_passes() -> None:
    triton_proto.check(CONFIG, release=RELEASE, place="x")
    triton_proto.check({"dynamic_batching": {"priority_queue_policy": {"1": {}}}}, release=RELEASE, place="x")


def test_every_problem_is_found_with_its_path() -> None:
    data = {"max_batch_size": "8", "instance_group": [{}, {"cont": 1, "kind": "CPU"}], "model_metrics": {}}
    found = {misfit.path: misfit.at_key for misfit in triton_proto.problems(data, release="24.10")}
    assert found == {
        ("max_batch_size",): False,
        ("instance_group", 1, "cont"): True,
        ("instance_group", 1, "kind"): False,
        ("model_metrics",): True,
    }
    assert list(triton_proto.problems({}, release="24.10")) == []


def test_floats_are_the_shortest_that_mean_the_same() -> None:
    text = "sequence_batching { direct { minimum_slot_utilization: 0.1 } }"
    parsed = triton_proto.parse_text(text, place="x")
    assert triton_proto.to_json(parsed)["sequence_batching"]["direct"] == {"minimum_slot_utilization": 0.1}
    assert triton_proto.build(triton_proto.to_json(parsed), release=RELEASE) == parsed


def test_the_json_schema_of_a_field_takes_what_the_descriptors_take() -> None:
    validator = jsonschema.Draft202012Validator(triton_proto.json_schema("instance_group"))
    assert validator.is_valid([{"kind": "KIND_GPU", "gpus": [0], "rate_limiter": {"resources": [{"global": True}]}}])
    assert not validator.is_valid([{"kind": "GPU"}])
    assert not validator.is_valid([{"gpu": [0]}])
    assert not validator.is_valid([{"gpus": ["0"]}])
    queues = jsonschema.Draft202012Validator(triton_proto.json_schema("dynamic_batching", "priority_queue_policy"))
    assert queues.is_valid({"1": {"max_queue_size": 2}})
    assert not queues.is_valid({"1": {"max_queue_sise": 2}})


METRICS = {"model_metrics": {"metric_control": []}}
IN_FLIGHT = {"ensemble_scheduling": {"max_inflight_requests": 4}}


@pytest.mark.parametrize(("data", "first"), [(METRICS, "24.11"), (IN_FLIGHT, "25.11")])
def test_a_field_is_refused_before_its_first_release_and_taken_from_then_on(
    data: dict[str, object], first: str
) -> None:
    triton_proto.check(data, release=first, place="x")
    with pytest.raises(
        UserError, match=rf"^x\..*: Triton 24\.10 does not know it: Model\w+\.\w+ is there since {first}"
    ):
        triton_proto.check(data, release="24.10", place="x")


def test_an_enum_value_has_a_first_release_too() -> None:
    with pytest.raises(UserError, match=r"x\.input\[0\]\.data_type: .*DataType\.TYPE_BF16 is there since 22\.05"):
        triton_proto.check({"input": [{"data_type": "TYPE_BF16"}]}, release="22.04", place="x")


def test_the_dated_table_names_real_fields() -> None:
    from google.protobuf.descriptor_pool import Default

    def is_real(name: str) -> bool:
        owner, _, member = f"inference.{name}".rpartition(".")
        try:
            return member in Default().FindMessageTypeByName(owner).fields_by_name
        except KeyError:
            return member in Default().FindEnumTypeByName(owner).values_by_name

    triton_proto.build({}, release=RELEASE)
    assert all(is_real(name) for name in FIRST_RELEASE)
    assert not is_real("ModelConfig.model_metric")


def test_releases_compare_by_date() -> None:
    assert [
        knows(release, "ModelConfig.model_metrics") for release in ("24.09", "24.10", "24.11", "25.01", "26.02")
    ] == [
        False,
        False,
        True,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name: "m"\nmax_batch_sise: 1\n', r'^f\.pbtxt:2:1: .*no field named "max_batch_sise"'),
        ("instance_group { kind: kind_cpu }", r"^f\.pbtxt:1:24: .*kind_cpu"),
        ("dynamic_batching {} sequence_batching {}", r"^f\.pbtxt:1:\d+: .*dynamic_batching"),
        ('name: "a" name: "b"', r"^f\.pbtxt:1:\d+: .*multiple"),
        ("{", r"^f\.pbtxt:1:1: "),
    ],
)
def test_a_bad_pbtxt_is_refused_with_line_and_column(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        triton_proto.parse_text(text, place="f.pbtxt")


BY_FILE = """
import sys
from builder.tools import triton_proto
message = triton_proto.build({"name": "m"}, release="25.09")
loaded = [name for name in sys.modules if name == "grpc" or name.startswith("tritonclient")]
assert not loaded, loaded
from tritonclient.grpc import model_config_pb2
assert type(message) is model_config_pb2.ModelConfig
"""
BY_NAME = """
from tritonclient.grpc import model_config_pb2
from builder.tools import triton_proto
assert type(triton_proto.build({"name": "m"}, release="25.09")) is model_config_pb2.ModelConfig
"""


@pytest.mark.parametrize("script", [BY_FILE, BY_NAME])
def test_grpc_is_not_imported_and_does_not_clash(script: str) -> None:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
