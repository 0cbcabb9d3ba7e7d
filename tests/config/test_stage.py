from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.artifacts import Tensor
from builder.config import Configure, ConfigureInputs, configure, warm_up
from builder.config.shipped import shipped_files
from builder.core.digest import digest_json, digest_tree
from builder.errors import InternalError, ModelError, RecipeError, UserError
from builder.recipe import load
from builder.recipe.document import Node, Place
from builder.tools import triton_proto
from tests.models import MAX_LENGTH, TEXTS
from tests.parts import DIMENSIONS, INPUTS, Parts, make_parts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from builder.artifacts import ModelConfigs
    from builder.recipe import Recipe

RECIPE = """
schema_version: 1
name: tiny
source: {path: model}
task: text-classification
"""


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return make_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture
def make_recipe(tmp_path: Path) -> Callable[..., Recipe]:
    """RECIPE and what is set on top of it."""

    def make(*overrides: str) -> Recipe:
        path = tmp_path / "recipe.yaml"
        path.write_text(RECIPE, encoding="utf-8")
        (tmp_path / "model").mkdir(exist_ok=True)
        return load(path, overrides)

    return make


@pytest.fixture
def make_stage(make_recipe: Callable[..., Recipe]) -> Callable[..., Configure]:
    return lambda *overrides: configure(make_recipe(*overrides), "cpu")


def warmed(recipe: Recipe, parts: Parts, folder: Path) -> ConfigureInputs:
    """What the stage reads, with the warm-up data that the recipe asks for."""
    stage, inputs = warm_up(recipe), (parts.tokenizer, parts.reference)
    if stage is None:
        return ConfigureInputs(parts.model, parts.tokenizer)
    folder.mkdir()
    data = stage.run(inputs, folder)
    stage.ensures(inputs, data)
    return ConfigureInputs(parts.model, parts.tokenizer, data)


@pytest.fixture
def inputs(make_recipe: Callable[..., Recipe], parts: Parts, tmp_path: Path) -> ConfigureInputs:
    return warmed(make_recipe(), parts, tmp_path / "inputs")


@pytest.fixture
def run(make_recipe: Callable[..., Recipe], parts: Parts, tmp_path: Path) -> Callable[..., Made]:
    def run(*overrides: str) -> Made:
        recipe = make_recipe(*overrides)
        stage = configure(recipe, "cpu")
        out = tmp_path / f"out-{digest_json(list(overrides))[:8]}"
        inputs = warmed(recipe, parts, out.with_suffix(".warmup"))
        stage.requires(inputs)
        output = stage.run(inputs, out)
        stage.ensures(inputs, output)
        return Made(output)

    return run


class Made:
    """What the stage made."""

    def __init__(self, output: ModelConfigs) -> None:
        self.output = output

    def text(self, name: str) -> str:
        return self.output.files[f"{name}/config.pbtxt"].path.read_text(encoding="utf-8")

    def config(self, name: str = "tiny-model") -> dict[str, Any]:
        return triton_proto.to_json(triton_proto.parse_text(self.text(name), place=name))

    @property
    def settings(self) -> dict[str, Any]:
        text = self.output.files["tiny-tokenize/1/settings.json"].path.read_text(encoding="utf-8")
        return json.loads(text)  # type: ignore[no-any-return]

    def parameters(self) -> dict[str, str]:
        return {key: value["string_value"] for key, value in self.config()["parameters"].items()}


def test_the_three_models(run: Callable[..., Made]) -> None:
    """Golden: what the default recipe gives. A change here is a change of Configure.version."""
    made = run()
    tokens = [{"name": name, "data_type": "TYPE_INT64", "dims": [-1]} for name in INPUTS]
    text = [{"name": "TEXT", "data_type": "TYPE_STRING", "dims": [1]}]
    embedding = [{"name": "EMBEDDING", "data_type": "TYPE_FP32", "dims": [DIMENSIONS]}]
    length = made.config()["model_warmup"][0]["inputs"]["input_ids"]["dims"][0]
    warm = {name: {"data_type": "TYPE_INT64", "dims": [length], "input_data_file": name} for name in INPUTS}
    assert made.config("tiny") == {
        "name": "tiny",
        "platform": "ensemble",
        "max_batch_size": 32,
        "input": text,
        "output": embedding,
        "ensemble_scheduling": {
            "step": [
                {
                    "model_name": "tiny-tokenize",
                    "model_version": -1,
                    "input_map": {"TEXT": "TEXT"},
                    "output_map": {name: name for name in sorted(INPUTS)},
                },
                {
                    "model_name": "tiny-model",
                    "model_version": -1,
                    "input_map": {name: name for name in sorted(INPUTS)},
                    "output_map": {"EMBEDDING": "EMBEDDING"},
                },
            ]
        },
    }
    assert made.config("tiny-tokenize") == {
        "name": "tiny-tokenize",
        "backend": "python",
        "max_batch_size": 32,
        "input": text,
        "output": tokens,
        "instance_group": [{"count": 1, "kind": "KIND_CPU"}],
        "dynamic_batching": {},
        "parameters": {"tokenizer_threads": {"string_value": "1"}},
    }
    assert made.config("tiny-model") == {
        "name": "tiny-model",
        "backend": "onnxruntime",
        "default_model_filename": "model.onnx",
        "max_batch_size": 32,
        "input": tokens,
        "output": embedding,
        "instance_group": [{"count": 1}],  # KIND_AUTO, the default, is not written
        "dynamic_batching": {},
        "parameters": {
            "inter_op_thread_count": {"string_value": "1"},
            "intra_op_thread_count": {"string_value": "2"},
        },
        "model_warmup": [
            {"name": "batch-1", "batch_size": 1, "inputs": warm},
            {"name": "batch-8", "batch_size": 8, "inputs": warm},
        ],
    }
    assert list(made.output.files) == [
        "tiny/config.pbtxt",
        "tiny-model/config.pbtxt",
        *(f"tiny-model/warmup/{name}" for name in sorted(INPUTS)),
        "tiny-tokenize/1/settings.json",
        "tiny-tokenize/config.pbtxt",
    ]


def test_the_platform_is_found_as_multi_model_endpoints_look_for_it(run: Callable[..., Made]) -> None:
    made = run()
    assert 'platform: "ensemble"\n' in made.text("tiny")
    assert not any('"ensemble"' in made.text(name) for name in ("tiny-tokenize", "tiny-model"))


def test_equal_inputs_give_equal_bytes(
    run: Callable[..., Made], make_stage: Callable[..., Configure], inputs: ConfigureInputs, tmp_path: Path
) -> None:
    again = make_stage().run(inputs, tmp_path / "again")
    assert digest_tree(again.files) == digest_tree(run().output.files)


@pytest.mark.parametrize(
    ("vcpus", "count", "expected"),
    [
        (1, None, (1, 1)),
        (2, None, (1, 2)),
        (8, None, (2, 4)),
        (2, 2, (2, 1)),
        (8, 1, (1, 8)),
        (8, 3, (3, 2)),
        (2, 6, (6, 1)),
    ],
)
def test_instances_and_threads(
    run: Callable[..., Made], vcpus: int, count: int | None, expected: tuple[int, int]
) -> None:
    overrides = [f"targets.cpu={{runtime: onnxruntime, hardware: {{vcpus: {vcpus}}}}}"]
    overrides += [f"serving.instance_group=[{{count: {count}}}]"] if count else []
    made = run(*overrides)
    assert (made.config()["instance_group"][0]["count"], int(made.parameters()["intra_op_thread_count"])) == expected


def test_local_hardware_is_that_of_this_machine_and_a_part_of_the_key(
    make_stage: Callable[..., Configure], inputs: ConfigureInputs
) -> None:
    stage = make_stage("targets.cpu={runtime: onnxruntime, hardware: local}")
    assert stage.vcpus == len(os.sched_getaffinity(0))
    other = replace(stage, vcpus=stage.vcpus + 1)
    assert stage.fingerprint(inputs) != other.fingerprint(inputs)


def test_who_sets_threads_gets_them(run: Callable[..., Made]) -> None:
    made = run("serving.parameters={intra_op_thread_count: '7', execution_mode: '1'}")
    assert made.parameters() == {"intra_op_thread_count": "7", "inter_op_thread_count": "1", "execution_mode": "1"}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("{max_queue_delay_microseconds: 500}", {"max_queue_delay_microseconds": 500}),
        (
            "{preferred_batch_size: [4, 8], preserve_ordering: true}",
            {"preferred_batch_size": [4, 8], "preserve_ordering": True},
        ),
        ("{}", {}),
        ("false", {"preferred_batch_size": [1]}),
    ],
)
def test_the_scheduler_is_always_explicit(run: Callable[..., Made], asked: str, expected: dict[str, Any]) -> None:
    made = run(f"serving.dynamic_batching={asked}")
    assert made.config()["dynamic_batching"] == expected
    assert "dynamic_batching {" in made.text("tiny-model")
    assert made.config("tiny-tokenize")["dynamic_batching"] == (expected if asked == "false" else {})


def test_cache_version_policy_and_batch_size(run: Callable[..., Made]) -> None:
    made = run(
        "serving.response_cache.enable=true",
        "serving.version_policy={specific: {versions: [1]}}",
        "serving.max_batch_size=4",
    )
    for name in ("tiny", "tiny-tokenize", "tiny-model"):
        assert made.config(name)["max_batch_size"] == 4
        assert made.config(name)["version_policy"] == {"specific": {"versions": [1]}}
        assert ("response_cache" in made.config(name)) == (name == "tiny")
    assert [entry["batch_size"] for entry in made.config()["model_warmup"]] == [1, 4]


def test_one_row_is_warmed_up_once(run: Callable[..., Made]) -> None:
    made = run("shapes.batch={min: 1, opt: 1, max: 1}")
    assert [entry["batch_size"] for entry in made.config()["model_warmup"]] == [1]


def test_warm_up_is_a_real_text_of_middling_length(run: Callable[..., Made], parts: Parts) -> None:
    made = run()
    [length] = made.config()["model_warmup"][0]["inputs"]["input_ids"]["dims"]
    stored = {
        name: np.frombuffer(made.output.files[f"tiny-model/warmup/{name}"].path.read_bytes(), dtype="<i8")
        for name in INPUTS
    }
    tokens = [parts.tokens((text,)) for text in TEXTS]
    assert any(all(np.array_equal(one[name][0], stored[name]) for name in INPUTS) for one in tokens)
    assert length == sorted(max(2, one["input_ids"].shape[1]) for one in tokens)[len(TEXTS) // 2]


def test_warm_up_off(run: Callable[..., Made]) -> None:
    made = run("serving.model_warmup=off")
    assert "model_warmup" not in made.config()
    assert not any("warmup" in path for path in made.output.files)


def test_a_text_with_line_separators_of_unicode_is_one_sample(
    tmp_path: Path, make_recipe: Callable[..., Recipe]
) -> None:
    parts = make_parts(tmp_path / "parts", samples=[{"text": "a\u2028b\u0085c"}])
    made = warmed(make_recipe(), parts, tmp_path / "warmup").warmup
    assert made
    stored = made.files["input_ids"].path.read_bytes()
    wanted = parts.tokens(("a\u2028b\u0085c",))["input_ids"]
    np.testing.assert_array_equal(np.frombuffer(stored, "<i8"), wanted[0])


def test_pairs(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    parts = make_parts(tmp_path / "parts", samples=[{"text": "one", "text_pair": "two"}])
    recipe = make_recipe("inputs.text_pair=true")
    made = Made(configure(recipe, "cpu").run(warmed(recipe, parts, tmp_path / "warmup"), tmp_path / "out"))
    for name in ("tiny", "tiny-tokenize"):
        assert [tensor["name"] for tensor in made.config(name)["input"]] == ["TEXT", "TEXT_PAIR"]
    assert made.config("tiny")["ensemble_scheduling"]["step"][0]["input_map"] == {
        "TEXT": "TEXT",
        "TEXT_PAIR": "TEXT_PAIR",
    }
    assert made.settings["text_pair"] is True
    stored = np.frombuffer(made.output.files["tiny-model/warmup/token_type_ids"].path.read_bytes(), "<i8")
    np.testing.assert_array_equal(stored, parts.tokens(("one", "two"))["token_type_ids"][0])


def test_settings_of_the_step(run: Callable[..., Made]) -> None:
    assert run().settings == {
        "schema": 1,
        "input_names": list(INPUTS),
        "text_pair": False,
        "prompt": "",
        "strip": False,
        "lower_case": False,
        "max_length": MAX_LENGTH,
        "minimum_length": 2,
        "truncation_side": "right",
        "padding": "longest",
        "buckets": [16, 32, MAX_LENGTH],
        "padding_side": "right",
        "pad_token_id": 0,
        "pad_token_type_id": 0,
    }


@pytest.mark.parametrize(
    ("overrides", "padding", "buckets"),
    [
        (["inputs.padding=buckets"], "buckets", [16, 32, MAX_LENGTH]),
        ([f"inputs.buckets=[8, {MAX_LENGTH}]"], "buckets", [8, MAX_LENGTH]),
    ],
)
def test_buckets(run: Callable[..., Made], overrides: list[str], padding: str, buckets: list[int]) -> None:
    made = run(*overrides)
    assert (made.settings["padding"], made.settings["buckets"]) == (padding, buckets)
    assert made.config()["model_warmup"][0]["inputs"]["input_ids"]["dims"][0] in buckets


def test_buckets_must_reach_the_greatest_length(run: Callable[..., Made]) -> None:
    with pytest.raises(UserError, match=rf"inputs\.buckets: the last is 40; it must be {MAX_LENGTH}"):
        run("inputs.buckets=[8, 40]")


def test_the_least_length_is_the_recipes(run: Callable[..., Made]) -> None:
    assert run("shapes.sequence={min: 5}").settings["minimum_length"] == 5


def test_raw_fields_are_merged_last(run: Callable[..., Made]) -> None:
    made = run(
        "serving.dynamic_batching={max_queue_delay_microseconds: 500}",
        "serving.parameters={intra_op_thread_count: '3'}",
        "serving.config={dynamic_batching: {max_queue_delay_microseconds: 7, default_queue_policy: {max_queue_size: 9}}"
        ", parameters: {intra_op_thread_count: {string_value: '4'}}, optimization: {graph: {level: 1}}}",
    )
    assert made.config()["dynamic_batching"] == {
        "max_queue_delay_microseconds": 7,
        "default_queue_policy": {"max_queue_size": 9},
    }
    assert made.parameters()["intra_op_thread_count"] == "4"
    assert made.config()["optimization"] == {"graph": {"level": 1}}
    assert "optimization" not in made.config("tiny-tokenize")


def test_threads_follow_raw_instances_too(run: Callable[..., Made]) -> None:
    assert run("serving.config={instance_group: [{count: 2}]}").parameters()["intra_op_thread_count"] == "1"


def test_raw_warm_up_replaces_ours(run: Callable[..., Made]) -> None:
    words = ", ".join(f"{name}: {{data_type: TYPE_INT64, dims: [4], zero_data: true}}" for name in INPUTS)
    made = run(f"serving.config={{model_warmup: [{{name: mine, batch_size: 2, inputs: {{{words}}}}}]}}")
    assert [entry["name"] for entry in made.config()["model_warmup"]] == ["mine"]
    assert not any("warmup" in path for path in made.output.files)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{sequence_batching: {}, dynamic_batching: {}}", "exclude each other"),
        (
            "{model_warmup: [{name: w, batch_size: 1, inputs: {a: {input_data_file: x}}}]}",
            r"model_warmup\.0\.inputs\.a\.input_data_file: 'x' is not in the repository: only what serving\.",
        ),
        (
            "{dynamic_batching: {preferred_batch_size: [64]}}",
            r"serving\.config\.dynamic_batching\.preferred_batch_size\.0: is 64; allowed: 1 to max_batch_size",
        ),
        ("{parameters: {intra_op_thread_cuont: {string_value: '1'}}}", "did you mean 'intra_op_thread_count'"),
    ],
)
def test_wrong_raw_fields_are_refused_before_anything_is_built(
    make_stage: Callable[..., Configure], config: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make_stage(f"serving.config={config}")


def test_a_scheduler_gives_way_to_the_other(run: Callable[..., Made]) -> None:
    config = run("serving.sequence_batching={oldest: {max_candidate_sequences: 4}}").config()
    assert config["sequence_batching"] == {"oldest": {"max_candidate_sequences": 4}}
    assert "dynamic_batching" not in config
    raw = run("serving.config={sequence_batching: {direct: {}}}").config()
    assert ("sequence_batching" in raw, "dynamic_batching" in raw) == (True, False)


DAILY = """
serving:
  dynamic_batching:
    priority_levels: 2
    default_priority_level: 2
    default_queue_policy: {max_queue_size: 64, default_timeout_microseconds: 100000}
    priority_queue_policy: {"1": {max_queue_size: 8}}
  instance_group:
    - {name: a, kind: KIND_CPU, host_policy: numa0, rate_limiter: {resources: [{name: R, count: 1}], priority: 2}}
  optimization: {graph: {level: 1}, input_pinned_memory: {enable: false}}
  metric_tags: {team: search}
  model_repository_agents: {agents: [{name: checksum, parameters: {"MD5:1/model.onnx": abc}}]}
"""


def test_daily_fields_reach_the_model_and_nothing_else(
    run: Callable[..., Made], make_stage: Callable[..., Configure], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "RECIPE", RECIPE + DAILY)
    made = run()
    config = made.config()
    assert config["dynamic_batching"] == {
        "priority_levels": 2,
        "default_priority_level": 2,
        "default_queue_policy": {"max_queue_size": 64, "default_timeout_microseconds": 100000},
        "priority_queue_policy": {"1": {"max_queue_size": 8}},
    }
    [group] = config["instance_group"]
    assert group["count"] == 1
    assert group["rate_limiter"] == {"resources": [{"name": "R", "count": 1}], "priority": 2}
    for field in ("optimization", "metric_tags", "model_repository_agents"):
        assert field in config
        assert field not in made.config("tiny-tokenize")
        assert field not in made.config("tiny")


def test_what_contradicts_itself_is_named_with_every_place(
    make_stage: Callable[..., Configure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = """\
serving:
  dynamic_batching: {priority_levels: 2}
  instance_group: [{kind: KIND_GPU}]
  config:
    dynamic_batching: {default_priority_level: 3}
  configs:
    t4: {instance_group: [{kind: KIND_GPU, count: 0}]}
"""
    monkeypatch.setitem(globals(), "RECIPE", RECIPE + more)
    with pytest.raises(RecipeError) as caught:
        make_stage()
    lines = str(caught.value).replace(f"{tmp_path}/", "").splitlines()
    kind = "is KIND_GPU, but the target has no GPU; allowed: KIND_AUTO, KIND_CPU, KIND_MODEL"
    level = "is 3; allowed: 1 to priority_levels, which is 2"
    assert lines == [
        f"recipe.yaml:8:27: serving.instance_group.0.kind: {kind}",
        f"recipe.yaml:10:48: serving.config.dynamic_batching.default_priority_level: {level}",
    ]
    with pytest.raises(RecipeError, match=r"recipe\.yaml:12:51: serving\.configs\.t4\.instance_group\.0\.count: is 0"):
        make_stage("serving.instance_group=[{}]", "serving.config.dynamic_batching.default_priority_level=1")


def test_configs_for_kinds_of_gpus(run: Callable[..., Made]) -> None:
    made = run(
        "serving.configs={t4: {instance_group: [{kind: KIND_GPU, gpus: [0], count: 2}], metric_tags: {gpu: t4}},"
        " l4: {sequence_batching: {oldest: {}}}}"
    )

    def other(name: str) -> dict[str, Any]:
        text = made.output.files[f"tiny-model/configs/{name}.pbtxt"].path.read_text(encoding="utf-8")
        return triton_proto.to_json(triton_proto.parse_text(text, place=name))

    changed = {"instance_group": [{"kind": "KIND_GPU", "gpus": [0], "count": 2}], "metric_tags": {"gpu": "t4"}}
    assert other("t4") == {**made.config(), **changed}
    assert "dynamic_batching" not in other("l4")
    assert {path for path in made.output.files if "configs" in path} == {
        "tiny-model/configs/t4.pbtxt",
        "tiny-model/configs/l4.pbtxt",
    }


def test_labels_are_the_models(run: Callable[..., Made], inputs: ConfigureInputs, tmp_path: Path) -> None:
    entry = "serving.output=[{name: EMBEDDING, label_filename: classes.txt}]"
    with pytest.raises(UserError, match=r"serving\.output\.0\.label_filename: the model has no labels"):
        run(entry)
    for labels, message in (
        (("a", "b"), "EMBEDDING has 8 values, but the model has 2 labels"),
        (("a\nb", *"cdefghi"), "has more than one line"),
    ):
        with pytest.raises(UserError, match=message):
            make(entry, replace(inputs, labels=labels), tmp_path / str(len(labels)))
    named = replace(inputs, labels=tuple("abcdefgh"))
    made = make(entry, named, tmp_path / "good")
    assert made.output.files["tiny-model/classes.txt"].path.read_text(encoding="utf-8") == "\n".join("abcdefgh") + "\n"
    assert made.config()["output"][0]["label_filename"] == "classes.txt"
    assert "label_filename" not in made.config("tiny")["output"][0]


def make(override: str, inputs: ConfigureInputs, folder: Path) -> Made:
    """Runs the stage for other inputs."""
    folder.mkdir()
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    stage = configure(load(folder / "recipe.yaml", [override]), "cpu")
    return Made(stage.run(inputs, folder / "out"))


def explicit(path: object, dims: str = "[4]") -> str:
    words = ", ".join(f"{name}: {{data_type: TYPE_INT64, dims: {dims}, zero_data: true}}" for name in INPUTS[1:])
    mine = f"{INPUTS[0]}: {{data_type: TYPE_INT64, dims: {dims}, input_data_file: {path}}}"
    return f"serving.model_warmup=[{{name: mine, batch_size: 2, count: 3, inputs: {{{mine}, {words}}}}}]"


def test_warm_up_with_a_file_of_the_recipes(
    run: Callable[..., Made], make_stage: Callable[..., Configure], inputs: ConfigureInputs, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ids.raw").write_bytes(np.arange(4, dtype="<i8").tobytes())
    made = run(explicit("data/ids.raw"))
    [entry] = made.config()["model_warmup"]
    assert entry["inputs"]["input_ids"]["input_data_file"] == "ids.raw"
    assert made.output.files["tiny-model/warmup/ids.raw"].path.read_bytes() == np.arange(4, dtype="<i8").tobytes()
    assert [path for path in made.output.files if "/warmup/" in path] == ["tiny-model/warmup/ids.raw"]
    first = make_stage(explicit("data/ids.raw"))
    assert first.reads(inputs)[-1].path == tmp_path / "data" / "ids.raw"
    (tmp_path / "data" / "ids.raw").write_bytes(bytes(32))
    assert make_stage(explicit("data/ids.raw")).fingerprint(inputs) != first.fingerprint(inputs)
    with pytest.raises(UserError, match=r"input_data_file: 'ids\.raw' holds 32 bytes; TYPE_INT64 \[5\] needs 40"):
        run(explicit("data/ids.raw", "[5]"))
    with pytest.raises(RecipeError, match=r"input_data_file: nowhere\.raw: cannot be read: No such file"):
        make_stage(explicit("nowhere.raw"))


def test_two_files_of_one_name(make_stage: Callable[..., Configure], tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x").write_text(folder, encoding="utf-8")
    entry = "inputs: {i: {input_data_file: %s/x}}"
    both = f"serving.model_warmup=[{{{entry % 'a'}}}, {{{entry % 'b'}}}]"
    with pytest.raises(RecipeError, match=r"b/x: another file of the same name goes to warmup/x; rename one of them"):
        make_stage(both)


def test_states_begin_with_a_file_of_the_recipes(tmp_path: Path) -> None:
    (tmp_path / "zero.raw").write_bytes(bytes(8))
    state = {"initial_state": [{"zero_data": True}, {"data_file": "zero.raw"}]}
    files = shipped_files({"sequence_batching": {"state": [state]}}, tmp_path, Node({}, Place("", (0, 0))), ())
    assert {name: file.size for name, file in files.items()} == {"initial_state/zero.raw": 8}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "serving.input=[{name: input_idz}]",
            "'input_idz' is no input of the model; it has: input_ids, attention_mask",
        ),
        (
            "serving.output=[{name: EMBEDDING, dims: [9], reshape: {shape: [9]}}]",
            r"reshape: must be the model's shape, \[8\]",
        ),
        (
            "serving.output=[{name: EMBEDDING, dims: [3], reshape: {shape: [8]}}]",
            r"reshape: cannot make \[8\] of \[3\]",
        ),
        ("serving.input=[{name: input_ids, dims: [1, -1], reshape: {shape: [-1]}}]", r"the tokenizer makes \[-1\]"),
        (
            "serving.input=[{name: input_ids, allow_ragged_batch: true}]",
            r"needs an input of the shape \[-1\], .* \[-1, -1\]",
        ),
        ("serving.input=[{name: input_ids, optional: true}]", "only of models without a batch axis"),
        (
            "serving.sequence_batching={control_input: [{name: START, control: [{fp32_false_true: [0, 1]}]}]}",
            r"sequence_batching\.control_input\.0\.name: 'START' is no input of the graph",
        ),
        (
            "serving.batch_input=[{target_name: [input_ids], data_type: TYPE_FP32, source_input: [attention_mask]}]",
            r"batch_input\.0\.target_name\.0: 'input_ids' is made by the tokenizer",
        ),
        ("serving.cc_model_filenames={'8.9': x.onnx}", r"no file 'x\.onnx'; it has: model\.data, model\.onnx"),
    ],
)
def test_what_the_graph_refutes(run: Callable[..., Made], override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(override)


def test_what_clients_see_may_have_another_shape(run: Callable[..., Made]) -> None:
    made = run("serving.output=[{name: EMBEDDING, dims: [2, 4], reshape: {shape: [8]}}]")
    assert made.config()["output"][0]["dims"] == made.config("tiny")["output"][0]["dims"] == [2, 4]
    assert "reshape" not in made.config("tiny")["output"][0]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("serving.instance_group=[{count: 1, kind: KIND_GPU}]", "KIND_GPU, but the target has no GPU"),
        ("serving.config={instance_group: [{kind: KIND_GPU}]}", "KIND_GPU, but the target has no GPU"),
        ("serving.parameters={intra_op_thread_cuont: '1'}", "did you mean 'intra_op_thread_count'"),
        ("serving.version_policy={specific: {versions: [3]}}", "the repository holds version 1 alone"),
    ],
)
def test_what_the_recipe_alone_says_is_refused_before_anything_is_built(
    make_stage: Callable[..., Configure], override: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make_stage(override)


def test_raw_warm_up_names_tensors_that_are_not_known_yet(make_stage: Callable[..., Configure]) -> None:
    tensor = "{data_type: TYPE_INT64, dims: [4], zero_data: true}"
    make_stage(f"serving.config={{model_warmup: [{{name: w, batch_size: 1, inputs: {{input_ids: {tensor}}}}}]}}")


METRICS = "serving.config={model_metrics: {metric_control: []}}"


def test_a_field_that_the_target_does_not_know(make_stage: Callable[..., Configure]) -> None:
    old = "targets.cpu={runtime: onnxruntime, triton: '24.10'}"
    with pytest.raises(
        RecipeError, match=r"serving\.config\.model_metrics: Triton 24\.10 does not know it: .* since 24\.11"
    ):
        make_stage(old, METRICS)
    make_stage(METRICS)
    make_stage(old)


def test_a_graph_that_is_not_the_tokenizers(make_stage: Callable[..., Configure], inputs: ConfigureInputs) -> None:
    fewer = replace(inputs, model=replace(inputs.model, inputs=inputs.model.inputs[:1]))
    with pytest.raises(InternalError, match="the graph takes token_type_ids, but the tokenizer makes input_ids"):
        make_stage().requires(fewer)


@pytest.mark.parametrize("shape", [(8, -1), ()])
def test_a_graph_without_a_batch_axis(
    make_stage: Callable[..., Configure], inputs: ConfigureInputs, shape: tuple[int, ...]
) -> None:
    fixed = replace(inputs, model=replace(inputs.model, outputs=(Tensor("EMBEDDING", "FP32", shape),)))
    with pytest.raises(ModelError, match=r"EMBEDDING has the shape .*: its first axis is not a dynamic batch axis"):
        make_stage().requires(fixed)


@pytest.mark.parametrize(
    "override",
    [
        "name=other",
        "serving.max_batch_size=4",
        "serving.model_warmup=off",
        "inputs.padding=buckets",
        "targets.cpu={runtime: onnxruntime, hardware: {vcpus: 4}}",
        "targets.cpu={runtime: onnxruntime, triton: '25.08'}",
        "shapes.sequence={min: 3}",
    ],
)
def test_the_key_holds_what_changes_the_bytes(
    make_stage: Callable[..., Configure], inputs: ConfigureInputs, override: str
) -> None:
    assert digest_json(make_stage(override).fingerprint(inputs)) != digest_json(make_stage().fingerprint(inputs))


def test_the_key_holds_nothing_else(make_stage: Callable[..., Configure], inputs: ConfigureInputs) -> None:
    other = make_stage("description=other words", "verify.sweep.concurrency=[2]")
    assert digest_json(other.fingerprint(inputs)) == digest_json(make_stage().fingerprint(inputs))


def test_the_key_holds_tokenizer_warm_up_and_tensors(
    make_stage: Callable[..., Configure], make_recipe: Callable[..., Recipe], inputs: ConfigureInputs, tmp_path: Path
) -> None:
    other = make_parts(tmp_path / "other", kind="byte-level", samples=[{"text": "other"}])
    warmup = warmed(make_recipe(), other, tmp_path / "other-warmup").warmup
    keys = {
        digest_json(make_stage().fingerprint(changed))
        for changed in (
            inputs,
            replace(inputs, tokenizer=other.tokenizer),
            replace(inputs, tokenizer=replace(inputs.tokenizer, prompt="query: ")),
            replace(inputs, warmup=warmup),
            replace(inputs, model=replace(inputs.model, outputs=(Tensor("EMBEDDING", "FP32", (-1, 9)),))),
        )
    }
    assert len(keys) == 5


@pytest.mark.parametrize(
    ("overrides", "same"),
    [
        ((), True),
        (("serving.max_batch_size=4", "name=other"), True),
        (("inputs.max_length=8",), False),
        (("shapes.sequence={min: 3}",), False),
    ],
)
def test_the_key_of_warm_up_data_holds_no_serving_option(
    make_recipe: Callable[..., Recipe], parts: Parts, overrides: tuple[str, ...], same: bool
) -> None:
    keys = set()
    for recipe in (make_recipe(), make_recipe(*overrides)):
        stage = warm_up(recipe)
        assert stage
        keys.add(digest_json(stage.fingerprint((parts.tokenizer, parts.reference))))
    assert (len(keys) == 1) == same


def test_the_key_of_warm_up_data_holds_tokenizer_and_samples(
    make_recipe: Callable[..., Recipe], parts: Parts, tmp_path: Path
) -> None:
    other = make_parts(tmp_path / "other", kind="byte-level", samples=[{"text": "other"}])
    prompted = replace(parts.tokenizer, prompt="query: ")
    stage = warm_up(make_recipe())
    assert stage
    keys = {
        digest_json(stage.fingerprint((tokenizer, reference)))
        for tokenizer in (parts.tokenizer, other.tokenizer, prompted)
        for reference in (parts.reference, other.reference)
    }
    assert len(keys) == 6
