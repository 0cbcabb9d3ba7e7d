"""Real plans, compiled by TensorRT-RTX on the CPU; and what is refused, each time by the real library."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from onnx import helper

from builder.artifacts import Engine, OnnxModel, Profile, Tensor
from builder.core.digest import describe_file
from builder.core.execute import Executor, fingerprint_of
from builder.core.store import Store
from builder.engine import Compile, EngineOptions, join
from builder.errors import BlockedError, InternalError, ModelError, TritonsmithError
from builder.tools import hardware, installed
from builder.tools.engine_header import read_engine_head
from builder.tools.onnxruntime import Session
from tests.engine.graphs import PROFILES, WIDTH, encoder
from tests.tiny_graphs import onnx_model

if TYPE_CHECKING:
    from pathlib import Path

RTX = "1.7.1.116"
no_gpu = pytest.mark.skipif(bool(hardware.gpus()), reason="there is a GPU: nothing is missing")


def compiler(capability: str = "8.6", profiles: tuple[Profile, ...] = PROFILES, **options: object) -> Compile:
    return Compile("tensorrt-rtx", RTX, capability, profiles, EngineOptions(**options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a store that keeps what several tests ask for."""
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def models(work: Path) -> dict[str, OnnxModel]:
    return {precision: encoder(work / precision, precision) for precision in ("fp16", "fp32")}


def built(stage: Compile, model: OnnxModel, work: Path) -> Engine:
    return Executor(Store.at(work / "store"), "test").run(stage, model)


def refusal(stage: Compile, model: OnnxModel, work: Path) -> TritonsmithError:
    with pytest.raises(TritonsmithError) as raised:
        built(stage, model, work)
    return raised.value


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("capability", ["7.5", "8.6", "8.9", "12.0"])
def test_plans(capability: str, precision: str, models: dict[str, OnnxModel], work: Path) -> None:
    model = models[precision]
    if (capability, precision) == ("7.5", "fp32"):
        error = refusal(compiler(capability), model, work)
        assert isinstance(error, ModelError)
        assert "multiplies no fp32 matrices on compute capability 7.5: node_MatMul_" in error.message
        assert ", at encoder.layer.0." in error.message
        return
    engine = built(compiler(capability), model, work)
    head = read_engine_head(engine.files["model.plan"].path.read_bytes()[:28])
    assert (head.kind, head.version) == ("tensorrt_rtx", "1.7.1")
    assert (engine.inputs, engine.outputs) == (model.inputs, model.outputs)
    assert (engine.profiles, engine.plans) == (PROFILES, {capability: "model.plan"})
    record = engine.record
    assert (record["version"], record["cuda"], record["compute_capability"]) == (RTX, "13", capability)
    assert (record["flags"], record["reproducible"]) == ([], True)  # not even TF32, which is TensorRT's default
    assert record["precision"]["used"] == precision
    assert record["seconds"]["build"] > 0
    assert record["timing_cache"] is None


def test_the_same_plan_each_time_and_another_for_other_gpus_and_shapes(
    models: dict[str, OnnxModel], work: Path, tmp_path: Path
) -> None:
    first, again = (built(compiler(), models["fp16"], folder) for folder in (work, tmp_path))
    assert first.files == {"model.plan": replace(again.files["model.plan"], path=first.files["model.plan"].path)}
    others = [compiler("8.9"), compiler(profiles=PROFILES[:1])]
    digests = {built(stage, models["fp16"], work).files["model.plan"].sha256 for stage in others}
    assert len(digests | {first.files["model.plan"].sha256}) == 3


def test_the_key_is_of_declared_facts(models: dict[str, OnnxModel]) -> None:
    model = models["fp16"]
    stages = [
        compiler(),
        compiler("8.9"),
        compiler(profiles=PROFILES[:1]),
        compiler(tf32=True),
        replace(compiler(), library="1.7.2"),
        replace(compiler(), runtime="tensorrt", library="10.13.3.9"),  # which is not here
    ]
    keys = [str(fingerprint_of(stage, model)) for stage in stages]
    assert len(set(keys)) == len(keys)
    assert fingerprint_of(compiler(), replace(model, record={})) == fingerprint_of(compiler(), model)


@no_gpu
def test_what_this_machine_lacks_blocks(models: dict[str, OnnxModel], work: Path) -> None:
    for stage, words in {
        replace(compiler(), runtime="tensorrt", library="10.13.3.9"): "tensorrt 10.13.3.9 is needed, and is not inst",
        replace(compiler(), library="1.7.2"): "1.7.2 is needed, and 1.7.1.116 is installed",
        compiler(strip_weights=True): "strip_weights: tensorrt-rtx needs a GPU",
    }.items():
        error = refusal(stage, models["fp16"], work)
        assert isinstance(error, BlockedError)
        assert words in error.message


def test_what_the_runtime_has_not_is_refused(models: dict[str, OnnxModel], work: Path) -> None:
    for stage, words in {
        compiler("9.0"): "tensorrt-rtx does not compile for it; it does for 7.5, 8.0",
        compiler(version_compatible=True): "engine.version_compatible: tensorrt-rtx has no such plans",
        compiler(hardware_compatibility="ampere_plus"): "engine.hardware_compatibility: tensorrt-rtx has no such",
    }.items():
        assert words in refusal(stage, models["fp16"], work).message


def test_an_unsupported_operator_is_named_with_its_module(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Unique", ["HIDDEN"], ["distinct"], "node_Unique_11"),
        helper.make_node("ReduceMean", ["distinct"], ["EMBEDDING"], "node_ReduceMean_12", axes=[0]),
    ]
    model = encoder(tmp_path / "model", more=nodes)
    error = refusal(compiler(), model, tmp_path)
    assert error.message == "tensorrt-rtx does not support Unique (node_Unique_11, at encoder.layer.0.value)"


def test_a_name_that_is_given_twice(tmp_path: Path) -> None:
    two = [helper.make_node("Constant", [], ["HALF"], value_floats=[value]) for value in (0.25, 0.5)]
    nodes = [*two, helper.make_node("Mul", ["HIDDEN", "HALF"], ["less"])]
    nodes += [helper.make_node("ReduceMean", ["less"], ["EMBEDDING"], axes=[1], keepdims=0)]
    model = encoder(tmp_path / "model", "fp32", nodes)
    Session(model.files["model.onnx"].path)  # onnxruntime takes it
    error = refusal(compiler(), model, tmp_path)
    assert "several values of the graph are called HALF: names must be unique" in error.message


def test_a_shape_that_the_model_cannot_take(models: dict[str, OnnxModel], work: Path) -> None:
    error = refusal(compiler(profiles=(Profile((1, 2, 4), (2, 64, 64)),)), models["fp16"], work)
    assert "profile 0: the model cannot run at its batch of 2, 64 tokens: node_Add_3, at embeddings." in error.message


def test_a_model_without_an_axis_of_tokens(models: dict[str, OnnxModel], work: Path, tmp_path: Path) -> None:
    mean = ("ReduceMean", ["pixel_values"], ["LOGITS"], {"axes": [2, 3], "keepdims": 0})
    graph = onnx_model({"pixel_values": ("FLOAT16", ["batch", 3, 4, 4])}, {"LOGITS": ("FLOAT16", ["batch", 3])}, [mean])
    (tmp_path / "model.onnx").write_bytes(graph)
    inputs, outputs = Tensor("pixel_values", "FP16", (-1, 3, 4, 4)), Tensor("LOGITS", "FP16", (-1, 3))
    model = OnnxModel({"model.onnx": describe_file(tmp_path / "model.onnx")}, (inputs,), (outputs,), 17, {})
    batches = compiler(profiles=(Profile((1, 2, 4)),))
    assert built(batches, model, work).inputs == (inputs,)
    assert "has an axis of tokens, and the profile says none" in refusal(batches, models["fp16"], work).message


def test_too_little_workspace(models: dict[str, OnnxModel], work: Path) -> None:
    stage = compiler(profiles=(Profile((1, 8, 4096), (2, 8, 48)),), workspace_mib=1)
    assert "engine.workspace_mib: 1 MiB is too little" in refusal(stage, models["fp16"], work).message


def test_too_little_memory(models: dict[str, OnnxModel]) -> None:
    """Where a process may map less than the library takes."""
    program = f"""
import resource
from pathlib import Path
from builder.artifacts import Profile
from builder.tools.tensorrt_build import EngineOptions, Order, build
resource.setrlimit(resource.RLIMIT_AS, (600 << 20,) * 2)
model = Path({str(models["fp16"].files["model.onnx"].path)!r})
order = Order(model, "tensorrt-rtx", "8.6", (Profile((1, 2, 4), (2, 8, 32)),), EngineOptions())
try:
    build(order, model.with_name("plan"))
except Exception as error:
    print(type(error).__name__, error)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True)
    assert ended.stdout.startswith("MachineError not enough memory to compile for compute capability 8.6: ")


def test_several_gpus_have_a_plan_each(models: dict[str, OnnxModel], work: Path) -> None:
    engines = [built(compiler(capability), models["fp16"], work) for capability in ("7.5", "8.6")]
    both = join(engines)
    assert both.plans == {"7.5": "sm75.plan", "8.6": "sm86.plan"}
    assert [both.files[name] for name in both.plans.values()] == [one.files["model.plan"] for one in engines]
    assert both.record["reproducible"]
    assert list(both.record["engines"]) == ["7.5", "8.6"]
    assert join(engines[:1]) == engines[0]
    other = replace(engines[1], outputs=(Tensor("EMBEDDING", "FP32", (-1, WIDTH)),))
    for wrong in ([engines[0], other], [engines[0], engines[0]]):
        with pytest.raises(InternalError):
            join(wrong)


def test_nothing_is_imported_before_an_engine_is_made() -> None:
    program = "import sys, builder.engine; print([n for n in sys.modules if n.startswith('tensorrt')])"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == "[]"
    assert installed.version("tensorrt-rtx-cu13-libs") == RTX
