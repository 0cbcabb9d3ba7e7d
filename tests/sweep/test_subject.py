"""Anybody's repository as a subject, and what knobs make of its configs. No server runs here."""

import json
from dataclasses import replace

import pytest

from builder.errors import UserError
from builder.sweep import subject as subjects
from builder.sweep.knobs import changes, edited
from builder.sweep.lengths import Lengths
from builder.sweep.setting import Setting
from builder.sweep.subject import Options, open_subject, variant

STEP = """
backend: "{backend}" max_batch_size: 8
input [{{name: "{given}", data_type: TYPE_{kind}, dims: [{dims}]}}]
output [{{name: "{made}", data_type: TYPE_FP32, dims: [4]}}]
instance_group [{{count: 1}}]
dynamic_batching {{max_queue_delay_microseconds: 100}}
model_warmup [{{name: "one", batch_size: 1}}, {{name: "eight", batch_size: 8}}]
"""
ENSEMBLE = """
platform: "ensemble" max_batch_size: 8
input [{name: "TEXT", data_type: TYPE_STRING, dims: [1]}, {name: "N", data_type: TYPE_INT64, dims: [-1]}]
output [{name: "OUT", data_type: TYPE_FP32, dims: [4]}]
ensemble_scheduling {step [
  {model_name: "all-tokenize", model_version: -1, input_map {key: "TEXT" value: "TEXT"}
   output_map {key: "ids" value: "i"}},
  {model_name: "all-model", model_version: -1, input_map {key: "ids" value: "i"} output_map {key: "OUT" value: "OUT"}}]}
"""


@pytest.fixture
def ensemble(tmp_path):
    texts = {
        "all": ENSEMBLE,
        "all-tokenize": STEP.format(backend="python", given="TEXT", kind="STRING", dims=1, made="ids"),
        "all-model": STEP.format(backend="onnxruntime", given="ids", kind="FP32", dims=-1, made="OUT"),
    }
    for name, text in texts.items():
        (tmp_path / "repository" / name / "1").mkdir(parents=True)
        (tmp_path / "repository" / name / "config.pbtxt").write_text(text)
    return tmp_path / "repository"


@pytest.fixture
def subject(ensemble):
    return open_subject(ensemble, Options(sizes={"N": 3}, rows=4))


def test_an_ensemble_is_told_from_its_steps(subject):
    assert (subject.name, subject.main, subject.load) == ("all", "all-model", ("all",))
    assert subject.steps == ("all-tokenize", "all-model")
    assert subject.model_of("") == "all-model"
    assert subject.model_of("tokenize") == subject.model_of("all-tokenize") == "all-tokenize"
    with pytest.raises(UserError, match=r"no such step; it has: tokenize, model"):
        subject.model_of("tokenizer")


def test_requests_are_random_but_the_same_for_a_seed(ensemble, subject):
    row = subject.rows[0]
    assert (row["N"].shape, row["N"].dtype.name) == ((3,), "int64")
    assert isinstance(row["TEXT"], str)
    assert len({request.digest for request in subject.requests}) == 4
    again = open_subject(ensemble, Options(sizes={"*": 3}, rows=4))
    assert again.digest == subject.digest
    assert open_subject(ensemble, Options(sizes={"N": 3}, rows=4, seed=1)).digest != subject.digest
    (ensemble / "all-model/1/model.onnx").write_text("another")
    assert open_subject(ensemble, Options(sizes={"N": 3}, rows=4)).digest != subject.digest


def test_requests_come_from_a_file(ensemble, tmp_path):
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps({"TEXT": "x" * size, "N": [size]}) + "\n" for size in (1, 2, 3)))
    subject = open_subject(ensemble, Options(samples=path))
    assert sorted(row["TEXT"] for row in subject.rows) == ["x", "xx", "xxx"]
    path.write_text('{"TEXT": "x", "N": [1], "source": "mine"}\n')
    (request,) = open_subject(ensemble, Options(samples=path)).requests
    assert request.values == {"TEXT": "x", "N": [1]}  # one will do


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", r"requests\.jsonl: 0 samples, at least 1 must be there"),
        ("[1]", r"requests\.jsonl:2: \[1\] is not an object"),
        ('{"TEXT": "y"}', r"requests\.jsonl:2: the tensor N is missing"),
        ('{"TEXT": "y", "N": [1], "M": 2}', r"requests\.jsonl:2: unknown tensor 'M'; clients send TEXT, N"),
        ('{"TEXT": "y", "N": "abc"}', r'requests\.jsonl:2: N is "abc"; it is INT64 \[-1\]: not all of it are numbers'),
        ('{"TEXT": "y", "N": "7"}', r'requests\.jsonl:2: N is "7"; it is INT64'),
        ('{"TEXT": "y", "N": [null]}', r"requests\.jsonl:2: N is \[null\]; it is INT64"),
        ('{"TEXT": "y", "N": [[1], [2, 3]]}', r"requests\.jsonl:2: N is \[\[1\], \[2, 3\]\]; it is INT64"),
        ('{"TEXT": "y", "N": [[1, 2]]}', r"requests\.jsonl:2: N has shape \[1, 2\]; it is INT64 \[-1\]"),
        ('{"TEXT": 3, "N": [1]}', r"requests\.jsonl:2: TEXT is 3, neither a string"),
    ],
)
def test_a_mistake_in_a_file_of_requests_has_its_line(ensemble, tmp_path, line, message):
    path = tmp_path / "requests.jsonl"
    path.write_text(('{"TEXT": "x", "N": [1]}\n' if line else "") + line + "\n")
    with pytest.raises(UserError, match=message):
        open_subject(ensemble, Options(samples=path))


def test_an_input_of_a_type_that_no_file_can_hold_is_refused(ensemble, tmp_path):
    config = ensemble / "all/config.pbtxt"
    config.write_text(config.read_text().replace("TYPE_INT64", "TYPE_BF16"))
    path = tmp_path / "requests.jsonl"
    path.write_text('{"TEXT": "x", "N": [1]}\n')
    for options in (Options(samples=path), Options(sizes={"N": 3})):
        with pytest.raises(UserError, match="input N has the type BF16; values are known for BOOL"):
            open_subject(ensemble, options)


def test_texts_of_a_file_are_made_as_long_as_asked(ensemble, tmp_path):
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps({"TEXT": f"a{one} b{one} c{one}", "N": [one]}) + "\n" for one in range(3)))
    options = Options(samples=path, lengths=Lengths("uniform", 2, 5), rows=4)
    subject = open_subject(ensemble, options)
    assert sorted(len(row["TEXT"].split()) for row in subject.rows) == [2, 3, 4, 5]


def test_a_knob_changes_the_config_of_its_step_alone(subject):
    setting = Setting.of(
        {
            "instance_group.count": 3,
            "tokenize:instance_group.kind": "KIND_CPU",
            "dynamic_batching.preferred_batch_size": (2, 4),
            "parameters.intra_op_thread_count": 2,
            "optimization.cuda.graphs": True,
            "response_cache.enable": True,
        }
    )
    configs = edited(subject, setting)
    model = configs["all-model"]
    assert model["instance_group"] == [{"count": 3}]
    assert model["dynamic_batching"] == {"max_queue_delay_microseconds": 100, "preferred_batch_size": [2, 4]}
    assert model["parameters"] == {"intra_op_thread_count": {"string_value": "2"}}
    assert model["optimization"] == {"cuda": {"graphs": True}}
    assert configs["all-tokenize"]["instance_group"] == [{"count": 1, "kind": "KIND_CPU"}]
    assert configs["all"]["response_cache"] == {"enable": True}  # the cache is of what clients call
    assert "response_cache" not in model
    assert subject.configs["all-model"]["instance_group"] == [{"count": 1}]  # untouched


def test_a_smaller_batch_shrinks_the_ensemble_and_drops_larger_warm_ups(subject):
    configs = edited(subject, Setting.of({"max_batch_size": 4}))
    assert {name: config["max_batch_size"] for name, config in configs.items()} == {
        "all": 4,
        "all-model": 4,
        "all-tokenize": 8,
    }
    assert [one["name"] for one in configs["all-model"]["model_warmup"]] == ["one"]


def test_batching_can_be_turned_off_and_values_left_out(subject):
    off = {"dynamic_batching": False, "dynamic_batching.max_queue_delay_microseconds": 5}
    assert "dynamic_batching" not in edited(subject, Setting.of(off))["all-model"]
    left_out = edited(subject, Setting.of({"instance_group.count": None}))["all-model"]
    assert left_out["instance_group"] == [{}]


def test_what_a_server_says_is_held_against_what_was_asked(subject):
    setting = Setting.of({"dynamic_batching.max_queue_delay_microseconds": 0, "instance_group.count": 2})
    delay, count = changes(subject, setting)
    assert not delay.misread({"dynamic_batching": {}})  # protobuf's JSON has no defaults
    assert delay.misread({"dynamic_batching": {"max_queue_delay_microseconds": "7"}})
    assert not count.misread({"instance_group": [{"count": 2}]})
    assert "2 was asked, the server says 1" in count.misread({"instance_group": [{"count": 1}]})


@pytest.mark.parametrize(
    ("knob", "words"),
    [("threads", "unknown; allowed: max_batch_size"), ("nobody:max_batch_size", "no such step")],
)
def test_unknown_knobs_are_refused(subject, knob, words):
    with pytest.raises(UserError, match=words):
        edited(subject, Setting.of({knob: 1}))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(), "input N has the shape"),
        (Options(model="none"), "has no model none"),
        (Options(sizes={"N": 3}, lengths=Lengths("uniform", 1, 4)), "lengths: "),
    ],
)
def test_options_that_do_not_fit_are_refused(ensemble, options, words):
    with pytest.raises(UserError, match=words):
        open_subject(ensemble, options)


def test_a_build_needs_a_recipe(subject):
    with pytest.raises(UserError, match="is no recipe"):
        variant(subject, Setting.of({"@precision": "int8"}))


def test_a_build_knob_is_written_over_the_recipe(subject, monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr(subjects, "open_subject", lambda path, options: opened.append((path, options)))
    own = replace(subject, recipe=tmp_path / "r.yaml", options=Options(target="cpu", overrides=("name=x",)))
    variant(own, Setting.of({"@precision": "int8", "@padding": "buckets", "@buckets": (16, 32)}))
    variant(own, Setting.of({"@target": "gpu", "@precision": "fp16"}))
    (path, first), (_, second) = opened
    assert (path, first.target) == (tmp_path / "r.yaml", "cpu")
    assert set(first.overrides) == {
        *("name=x", "targets.cpu.precision=int8", "inputs.padding=buckets", "inputs.buckets=[16, 32]")
    }
    assert (second.target, second.overrides) == ("gpu", ("name=x", "targets.gpu.precision=fp16"))
    assert variant(own, Setting()) is own
    with pytest.raises(UserError, match="allowed: @precision"):
        variant(own, Setting.of({"@colour": "red"}))


def test_what_is_no_subject_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        open_subject(tmp_path / "nothing.tar.gz")
    (tmp_path / "lonely.tar.gz").write_bytes(b"")
    with pytest.raises(UserError, match="no manifest"):
        open_subject(tmp_path / "lonely.tar.gz")
