"""Configs of engines: what is written by itself, what a recipe may say, and what does not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.artifacts import Profile
from builder.config import ConfigureInputs, configure, warm_up
from builder.config.engines import instances
from builder.config.hardware import gpu_memory, tokenizer_threads
from builder.config.rules import problems
from builder.core.digest import digest_json
from builder.errors import InternalError, ModelError, RecipeError, UserError
from builder.recipe import load
from builder.tools import triton_proto
from tests.models import MAX_LENGTH
from tests.parts import DIMENSIONS, INPUTS, Parts, make_engine, make_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from builder.artifacts import Engine, WarmupData
    from builder.config import Configure

RECIPE = """
schema_version: 1
name: tiny
source: {path: model}
task: sentence-embedding
targets:
  t4: {runtime: tensorrt, precision: fp16, hardware: {instance: ml.g4dn.2xlarge}}
"""
WHOLE = Profile((1, 8, 32), (2, 16, MAX_LENGTH))
SHORT, LONG = Profile((1, 8, 32), (2, 16, 32)), Profile((1, 4, 8), (33, MAX_LENGTH, MAX_LENGTH))
GRAPHS = "serving.optimization={cuda: {graphs: true, graph_spec: "
RTX = "targets.t4={runtime: tensorrt-rtx, precision: fp16, hardware: {gpu: L4}}"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return make_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def warmup(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> WarmupData:
    folder = tmp_path_factory.mktemp("warmup")
    (folder / "model").mkdir()
    (folder / "data").mkdir()
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    stage = warm_up(load(folder / "recipe.yaml"))
    assert stage
    return stage.run((parts.tokenizer, parts.reference), folder / "data")


@pytest.fixture
def make_stage(tmp_path: Path) -> Callable[..., Configure]:
    def make(*overrides: str) -> Configure:
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
        return configure(load(tmp_path / "recipe.yaml", overrides), "t4")

    return make


@pytest.fixture
def make_inputs(parts: Parts, warmup: WarmupData, tmp_path: Path) -> Callable[..., ConfigureInputs]:
    def make(*profiles: Profile, **options: Any) -> ConfigureInputs:
        folder = tmp_path / f"engine-{len(list(tmp_path.iterdir()))}"
        engine = make_engine(folder, parts.model, profiles or (WHOLE,), **options)
        return ConfigureInputs(parts.model, parts.tokenizer, warmup, engine=engine)

    return make


class Made:
    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder, self.record = folder, record

    def config(self, name: str = "tiny-model") -> dict[str, Any]:
        text = (self.folder / name / "config.pbtxt").read_text(encoding="utf-8")
        return triton_proto.to_json(triton_proto.parse_text(text, place=name))

    def warm(self, name: str) -> list[int]:
        values: list[int] = np.frombuffer((self.folder / "tiny-model/warmup" / name).read_bytes(), "<i8").tolist()
        return values


@pytest.fixture
def run(
    make_stage: Callable[..., Configure], make_inputs: Callable[..., ConfigureInputs], tmp_path: Path
) -> Callable[..., Made]:
    def run(*overrides: str, profiles: Sequence[Profile] = (), **options: Any) -> Made:
        stage, inputs = make_stage(*overrides), make_inputs(*profiles, **options)
        out = tmp_path / f"out-{digest_json([overrides, len(profiles)])[:8]}"
        stage.requires(inputs)
        output = stage.run(inputs, out)
        stage.ensures(inputs, output)
        return Made(out, output.record)

    return run


def test_the_models_of_an_engine(run: Callable[..., Made]) -> None:
    """Golden: what the default recipe gives. A change here is a change of ``engines._VERSION``."""
    made = run(profiles=(SHORT, LONG))
    tokens = [{"name": name, "data_type": "TYPE_INT64", "dims": [-1]} for name in INPUTS]
    warm = {
        length: {
            name: {"data_type": "TYPE_INT64", "dims": [length], "input_data_file": f"{name}-{length}"}
            for name in INPUTS
        }
        for length in (16, MAX_LENGTH)
    }
    assert made.config() == {
        "name": "tiny-model",
        "backend": "tensorrt",
        "default_model_filename": "model.plan",
        "max_batch_size": 8,
        "input": tokens,
        "output": [{"name": "EMBEDDING", "data_type": "TYPE_FP32", "dims": [DIMENSIONS]}],
        "instance_group": [{"count": 2, "kind": "KIND_GPU", "profile": ["0", "1"]}],
        "dynamic_batching": {},
        "parameters": {"execution_context_allocation_strategy": {"string_value": "ON_PROFILE_CHANGE"}},
        "model_warmup": [
            {"name": "shape-0", "batch_size": 1, "inputs": warm[16]},
            {"name": "shape-1", "batch_size": 8, "inputs": warm[16]},
            {"name": "shape-2", "batch_size": 4, "inputs": warm[MAX_LENGTH]},
        ],
    }
    assert made.config("tiny-tokenize")["parameters"] == {"tokenizer_threads": {"string_value": "4"}}  # 8 virtual CPUs
    assert {made.config(name)["max_batch_size"] for name in ("tiny", "tiny-tokenize")} == {8}
    settings = json.loads((made.folder / "tiny-tokenize/1/settings.json").read_text(encoding="utf-8"))
    assert (settings["padding"], settings["buckets"]) == ("buckets", [16, 32, MAX_LENGTH])
    assert made.record["lengths"] == [16, 32, MAX_LENGTH]


def test_warm_up_is_padded_to_what_requests_will_have(run: Callable[..., Made], warmup: WarmupData) -> None:
    made = run(profiles=(SHORT, LONG))
    ids = np.frombuffer(warmup.files["input_ids"].path.read_bytes(), "<i8").tolist()
    assert made.warm("input_ids-48") == [*ids, *[0] * (48 - len(ids))]
    assert made.warm("input_ids-16") == [*ids, *[0] * 16][:16]
    assert sum(made.warm("attention_mask-48")) == len(ids)


def test_one_profile_needs_no_memory_strategy(run: Callable[..., Made]) -> None:
    config = run().config()
    assert "parameters" not in config
    assert config["instance_group"][0]["profile"] == ["0"]
    assert config["max_batch_size"] == 32


def test_a_gpu_that_two_copies_would_fill_gets_one(make_inputs: Callable[..., ConfigureInputs]) -> None:
    engine = make_inputs().engine
    assert engine
    large = replace(engine, files={"model.plan": replace(engine.files["model.plan"], size=5 << 30)})
    assert [instances(large, size) for size in (16 << 10, 24 << 10, None)] == [1, 2, 2]
    assert gpu_memory(["T4", "L4"]) == 16384
    assert gpu_memory([]) is gpu_memory(["T4", "A30"]) is None


def test_older_tritons_do_not_know_the_strategy(run: Callable[..., Made]) -> None:
    older = "targets.t4.triton='25.04'", "targets.t4.engine={tensorrt: '10.9.0.34'}"
    assert "parameters" not in run(*older, profiles=(SHORT, LONG)).config()


def test_a_plan_of_tensorrt_rtx_has_a_backend_of_its_own(run: Callable[..., Made]) -> None:
    config = run(RTX, profiles=(SHORT, LONG), runtime="tensorrt-rtx").config()
    assert config["backend"] == "tensorrt_rtx"
    assert config["instance_group"] == [{"count": 2, "kind": "KIND_GPU"}]  # the core refuses `profile` here
    assert config["parameters"] == {"execution_context_allocation_strategy": {"string_value": "ON_PROFILE_CHANGE"}}
    with pytest.raises(RecipeError, match="profile: is set, but only the tensorrt backend takes it"):
        run(RTX, "serving.instance_group=[{profile: ['0']}]", runtime="tensorrt-rtx")


def test_a_plan_for_each_compute_capability(run: Callable[..., Made]) -> None:
    plans = {"7.5": "sm75.plan", "8.6": "sm86.plan"}
    config = run("targets.t4.hardware={gpus: [T4, A10G]}", plans=plans).config()
    assert config["cc_model_filenames"] == plans
    assert "default_model_filename" not in config
    shared = run("targets.t4.hardware={gpus: [T4, A10G]}", plans=dict.fromkeys(plans, "model.plan")).config()
    assert "cc_model_filenames" not in shared


def test_what_a_recipe_says_of_the_gpu_is_taken(run: Callable[..., Made]) -> None:
    config = run(
        "shapes.profiles=[{sequence: {max: 32}}, {sequence: {min: 33}}]",
        "serving.instance_group=[{count: 1, gpus: [0], profile: ['1', '0']}, {count: 3, gpus: [1]}]",
        "serving.optimization={gather_kernel_buffer_threshold: 4, eager_batching: true,"
        " input_pinned_memory: {enable: false}, output_pinned_memory: {enable: true},"
        " cuda: {busy_wait_events: true, output_copy_stream: true}}",
        "serving.parameters={execution_context_allocation_strategy: STATIC}",
        profiles=(SHORT, LONG),
    ).config()
    assert config["instance_group"] == [
        {"count": 1, "kind": "KIND_GPU", "gpus": [0], "profile": ["1", "0"]},
        {"count": 3, "kind": "KIND_GPU", "gpus": [1], "profile": ["0", "1"]},
    ]
    assert config["optimization"] == {
        "gather_kernel_buffer_threshold": 4,
        "eager_batching": True,
        "input_pinned_memory": {},  # there, but off: what is false is not written
        "output_pinned_memory": {"enable": True},
        "cuda": {"busy_wait_events": True, "output_copy_stream": True},
    }
    assert config["parameters"] == {"execution_context_allocation_strategy": {"string_value": "STATIC"}}


def test_graphs_get_a_spec_for_each_bucket_and_batch(run: Callable[..., Made]) -> None:
    specs = run("serving.optimization={cuda: {graphs: true}}").config()["optimization"]["cuda"]["graph_spec"]
    assert len(specs) == 3 * 8
    shapes = {name: {"dim": [32]} for name in INPUTS}
    assert specs[8 + 5] == {
        "batch_size": 8,
        "input": shapes,
        "graph_lower_bound": {"batch_size": 7, "input": shapes},
    }
    # Each batch up to 16 has exactly one graph at each length.
    for length in (16, 32, MAX_LENGTH):
        ranges = [
            range(spec.get("graph_lower_bound", spec)["batch_size"], spec["batch_size"] + 1)
            for spec in specs
            if spec["input"]["input_ids"]["dim"] == [length]
        ]
        assert [size for one in ranges for size in one] == list(range(1, 17))


@pytest.mark.parametrize("other", ["inputs.padding=longest", RTX])
def test_no_specs_where_shapes_are_not_fixed_or_nobody_reads_them(run: Callable[..., Made], other: str) -> None:
    runtime = "tensorrt-rtx" if other == RTX else "tensorrt"
    config = run(other, "serving.optimization={cuda: {graphs: true}}", runtime=runtime).config()
    assert config["optimization"] == {"cuda": {"graphs": True}}


def test_own_specs_are_kept(run: Callable[..., Made]) -> None:
    spec = "{batch_size: 1, input: {input_ids: {dim: [16]}, attention_mask: {dim: [16]}, token_type_ids: {dim: [16]}}}"
    config = run(f"{GRAPHS}[{spec}]}}}}").config()
    assert len(config["optimization"]["cuda"]["graph_spec"]) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "serving.max_batch_size=9",
            r"max_batch_size: is 9, but no profile .* takes a batch of 9 with 48 tokens; the ",
        ),
        ("serving.instance_group=[{profile: ['2']}]", r"profile\.0: the engine has no profile '2'; it has '0', '1'"),
        ("serving.instance_group=[{profile: ['0']}]", r"none of these profiles takes a batch of 1 with 48 tokens"),
        ("serving.config={instance_group: [{kind: KIND_GPU}]}", "none of these profiles takes"),  # profile 0 alone
        ("serving.dynamic_batching={preferred_batch_size: [16]}", r"is 16; allowed: 1 to max_batch_size, which is 8"),
        ("serving.parameters={threads: '1'}", "the tensorrt backend reads only execution_context_allocation_strategy"),
        ("serving.parameters={execution_context_allocation_strategy: ANY}", "is 'ANY'; allowed: STATIC"),
        (
            "serving.optimization={graph: {level: 1}}",
            r"optimization\.graph: is set, but a compiled engine is run as it",
        ),
        ("serving.instance_group=[{kind: KIND_CPU}]", "a TensorRT engine runs on a GPU alone"),
        ("serving.optimization={cuda: {graph_spec: [{batch_size: 1}]}}", "needs graphs: true"),
        ("serving.optimization={cuda: {graphs: true, graph_spec: [{batch_size: 9}]}}", "is 9; allowed: 1 to max_batch"),
        (
            f"{GRAPHS}[{{batch_size: 1, input: {{input_ids: {{dim: [8]}}}}}}]}}}}",
            "must name the inputs, input_ids, attention_mask, token_type_ids, and all of them",
        ),
        (
            f"{GRAPHS}[{{batch_size: 2, graph_lower_bound: {{batch_size: 3}}}}]}}}}",
            "is 3; allowed: 1 to the spec's own batch_size, which is 2",
        ),
    ],
)
def test_what_does_not_fit_the_engine(run: Callable[..., Made], override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        run(override, profiles=(SHORT, LONG))


@pytest.mark.parametrize(
    ("dims", "message"),
    [("[49]", "no profile takes a batch of 1 with 49 tokens; the nearest is profile 0"), ("[16, 16]", "takes .-1.")],
)
def test_specs_that_no_profile_takes(run: Callable[..., Made], dims: str, message: str) -> None:
    inputs = ", ".join(f"{name}: {{dim: {dims}}}" for name in INPUTS)
    with pytest.raises(RecipeError, match=message):
        run(f"{GRAPHS}[{{batch_size: 1, input: {{{inputs}}}}}]}}}}")


def test_a_bucket_outside_every_profile(run: Callable[..., Made]) -> None:
    message = (
        "no profile of the engine takes a batch of 1 with 48 tokens; the nearest is profile 0, which takes batches"
    )
    with pytest.raises(RecipeError, match=message):
        run(profiles=(SHORT,))
    with pytest.raises(RecipeError, match="no profile of the engine takes a batch of 1 with 33 tokens"):
        run("inputs.padding=longest", profiles=(SHORT, Profile((1, 1, 8), (34, 40, MAX_LENGTH))))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["shapes.batch={min: 2, max: 8}"], r"shapes\.batch\.min: is 2, but requests of 1 text come, too"),
        (["shapes.profiles=[{batch: {min: 2}}]"], "no profile of the engine takes a batch of 1; the nearest"),
        (["shapes.profiles=[{}]", "serving.instance_group=[{profile: ['1']}]"], "the engine has no profile '1'"),
        (
            [f"inputs.buckets=[16, {MAX_LENGTH}]", "shapes.profiles=[{sequence: {max: 32}}]"],
            f"no profile of the engine takes a batch of 1 with {MAX_LENGTH} tokens; the nearest is profile 0",
        ),
        (["shapes.profiles=[{batch: {max: 8}}]", "serving.max_batch_size=9"], "no profile of the engine takes a batch"),
    ],
)
def test_a_plan_already_tells(make_stage: Callable[..., Configure], overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_stage(*overrides)


def test_an_engine_with_int32_is_refused(
    make_stage: Callable[..., Configure], make_inputs: Callable[..., ConfigureInputs]
) -> None:
    inputs = make_inputs()
    assert inputs.engine
    narrow = tuple(replace(tensor, dtype="INT32") for tensor in inputs.engine.inputs)
    with pytest.raises(ModelError, match="is INT32 in the engine, but the tokenizer makes INT64"):
        make_stage().requires(replace(inputs, engine=replace(inputs.engine, inputs=narrow)))


def test_the_target_decides_what_is_served(
    make_stage: Callable[..., Configure], make_inputs: Callable[..., ConfigureInputs]
) -> None:
    for inputs in (replace(make_inputs(), engine=None), make_inputs(runtime="tensorrt-rtx")):
        with pytest.raises(InternalError, match="no engine of tensorrt"):
            make_stage().requires(inputs)


def test_another_plan_of_the_same_shapes_needs_no_new_config(
    make_stage: Callable[..., Configure], make_inputs: Callable[..., ConfigureInputs]
) -> None:
    stage, inputs = make_stage(), make_inputs()
    assert inputs.engine

    def key(**changes: Any) -> str:
        engine: Engine | None = inputs.engine
        assert engine
        return digest_json(stage.fingerprint(replace(inputs, engine=replace(engine, **changes))))

    renewed = {"model.plan": replace(inputs.engine.files["model.plan"], sha256="0" * 64)}
    assert key(files=renewed) == key()
    others = ({"profiles": (SHORT, LONG)}, {"plans": {"8.6": "model.plan"}}, {"runtime": "tensorrt-rtx"})
    assert len({key(), *(key(**change) for change in others)}) == 4


def test_long_texts_have_buckets_too(
    make_stage: Callable[..., Configure], make_inputs: Callable[..., ConfigureInputs]
) -> None:
    inputs = make_inputs()
    longer = replace(inputs, tokenizer=replace(inputs.text_tokenizer, max_length=3000))
    assert make_stage().tokenizer_settings(longer)["buckets"] == [16, 32, 64, 128, 256, 512, 1024, 2048, 3000]
    with pytest.raises(UserError, match="the last is 48; it must be 3000"):
        make_stage(f"inputs.buckets=[{MAX_LENGTH}]").tokenizer_settings(longer)


def test_passive_copies_need_no_profile(make_stage: Callable[..., Configure]) -> None:
    make_stage(
        "shapes.profiles=[{sequence: {max: 32}}, {sequence: {min: 33}}]",
        "serving.instance_group=[{count: 1}, {count: 1, passive: true, profile: ['0']}]",
    )


def test_nothing_is_said_of_an_engine_that_is_not_known() -> None:
    config = {"name": "m", "backend": "tensorrt", "max_batch_size": 512, "instance_group": [{"profile": ["7"]}]}
    assert list(problems(config, tensors=False)) == []


@pytest.mark.parametrize(("vcpus", "threads"), [(1, 1), (2, 1), (4, 2), (8, 4), (96, 48)])
def test_beside_a_gpu_half_of_the_cpus_tokenize(vcpus: int, threads: int) -> None:
    assert tokenizer_threads(vcpus, gpu=True) == threads
