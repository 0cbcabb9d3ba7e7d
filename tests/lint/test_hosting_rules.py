"""Each rule finds its bad repository, and nothing in its good one; no rule of these modules is without a case."""

from __future__ import annotations

import pytest

from builder.lint import Options, lint
from builder.lint.rule import RULES
from tests.lint.hosting_cases import ANY, CASES, MULTI, SINGLE, make, onnx, plan, python, rtx, told

MODULES = {
    "advice",
    "archive",
    "bls",
    "environment",
    "hosted_models",
    "onnx_files",
    "onnx_graph",
    "onnxruntime",
    "python_environment",
    "sagemaker",
    "tensorrt",
}


@pytest.mark.parametrize("rule_id", CASES)
def test_rule(rule_id, tmp_path):
    case = CASES[rule_id]
    sides = {"bad": (case.bad, case.options), "good": (case.good, case.good_options or case.options)}
    found = {}
    for side, (what, options) in sides.items():
        folder = tmp_path / side
        folder.mkdir()
        report = lint(make(what, folder), options)
        found[side] = [one for one in report.findings if one.rule == rule_id]
    assert found["bad"], "the bad one is not found"
    assert not found["good"], found["good"]
    for one in found["bad"]:
        assert one.message
        assert one.mend
        assert one.severity == RULES[rule_id].severity
        assert "\n" not in one.text


# Numbers of enums that have no name, which the text format takes.
NAMELESS = """\
backend: "tensorrt" input { name: "A" data_type: 99 dims: 1 format: 77 } output { name: "B" data_type: 99 dims: 1 }
instance_group { kind: 99 } model_warmup { inputs { key: "A" value { data_type: 99 dims: 1 zero_data: true } } }
batch_input { kind: 9 data_type: 99 source_input: "A" } batch_output { kind: 9 } optimization { priority: 9 }
sequence_batching { control_input { name: "S" control { kind: -1 } control { kind: 9 } }
  state { data_type: 98 initial_state { data_type: 99 } } }
"""
NAMELESS_STEPS = """\
platform: "ensemble" input { name: "A" data_type: 98 dims: 1 } output { name: "C" data_type: 97 dims: 1 }
ensemble_scheduling { step { model_name: "q" model_version: -1 input_map { key: "A" value: "A" }
  output_map { key: "C" value: "C" } } }
"""


@pytest.mark.parametrize(
    "text",
    ["name: ", "input { dims: [ 1 ] }", "\x00", "max_batch_size: -1", "platform: 'x'", NAMELESS, NAMELESS_STEPS],
)
@pytest.mark.parametrize("options", [ANY, SINGLE, MULTI, Options(mode="strict", gpus=0)])
def test_no_rule_stumbles_over_a_config(text, options, tmp_path):
    files = onnx() | {
        "m/1/model.plan": b"",
        "m/1/model.py": b"\xff(",
        "n/config.pbtxt": text,
        "n/1/model.plan": b"ftrt",
    }
    path = make(files | python(name="q") | {"m/config.pbtxt": text, "o/1/model.onnx": b"", "p/": ""}, tmp_path)
    assert lint(path, options).models == 5


def test_no_rule_is_without_a_case():
    mine = {rule.id for rule in RULES.values() if rule.module in MODULES}
    assert mine == set(CASES)


def test_a_plan_for_each_compute_capability_is_looked_at(tmp_path):
    text = plan('cc_model_filenames { key: "8.6" value: "l4.plan" }', **{"l4.plan": b"vtrt" + bytes(40)})
    found = [one for one in lint(make(text, tmp_path), ANY).findings if one.rule == "V2"]
    assert [one.path for one in found] == ["m/1/l4.plan"]


def test_a_plan_of_tensorrt_is_not_for_the_backend_of_tensorrt_rtx(tmp_path):
    files = {**rtx(), "m/1/model.plan": b"ftrt" + bytes(40)}
    [found] = [one for one in lint(make(files, tmp_path), ANY).findings if one.rule == "V2"]
    assert found.message == "is a plan of TensorRT, but the backend is tensorrt_rtx"


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"engines": 1}', '{"engines": {"m": {"profiles": [{"batch": [1]}]}}}']
)
def test_what_is_no_build_json_tells_nothing(text, tmp_path):
    files = plan('instance_group { profile: [ "7" ] }', **{"build.json": text})
    assert not {"C8", "C46", "C47"} & {one.rule for one in lint(make(files, tmp_path), ANY).findings}


def test_nobody_refuses_a_batch_where_configs_are_not_completed(tmp_path):
    path = make(told("", (2, 9, 7)), tmp_path)
    rules = [{one.rule for one in lint(path, options).findings} for options in (ANY, Options(mode="strict"))]
    assert ["C46" in found for found in rules] == [True, False]
