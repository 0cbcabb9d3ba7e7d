"""The stage, on a tiny model with real tokens: what it writes, what it keeps in FP32, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.artifacts import Profile
from builder.core.execute import Executor
from builder.core.store import Store
from builder.errors import GateError, ModelError
from builder.optimise import Optimise
from builder.parity.ledger import entry
from builder.parity.questions import questions
from builder.tools import half, onnx_proto, rowwise
from builder.tools.files import materialise
from builder.tools.onnxruntime import Session
from builder.tools.tensorrt_build import EngineOptions, Order, build
from tests.optimise.models import SAMPLES, WIDTH, Made, make, write_model

if TYPE_CHECKING:
    from pathlib import Path

    from builder.artifacts import OnnxModel

CLOSE = {"cosine": 0.9999}
CUDA = {"runtime": "tensorrt", "capabilities": ("8.6",)}
FP8 = {"precision": "fp8", "runtime": "tensorrt-rtx", "capabilities": ("8.9", "12.0")}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("quiet"))


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Its normalised values are about 1000: their squares overflow in FP16."""
    return make(tmp_path_factory.mktemp("loud"), loud=1000.0)


def run(made: Made, work: Path, **options: Any) -> OnnxModel:
    stage = Optimise(**{"tolerances": CLOSE, **CUDA, **options})
    return Executor(Store.at(work), "test").run(stage, made.inputs)


def precision(model: OnnxModel) -> dict[str, Any]:
    found: dict[str, Any] = model.record["precision"]
    return found


def digests(model: OnnxModel) -> dict[str, str]:
    return {name: file.sha256 for name, file in model.files.items()}


def after(model: OnnxModel) -> list[tuple[str, bool]]:
    return [(one["after"], one["within"]) for one in precision(model)["ledger"]]


def test_fp16_halves_the_weights_and_keeps_the_edges(quiet: Made, tmp_path: Path) -> None:
    output = run(quiet, tmp_path / "store", precision="fp16")
    assert after(output) == [("export", True), ("fp16", True)]
    assert precision(output)["used"] == "fp16"
    assert precision(output)["kept_fp32"] == []
    assert sorted(output.files) == ["model.fp16.data", "model.onnx"]
    weights = output.files["model.fp16.data"].size
    assert weights == (quiet.folder / "weights.data").stat().st_size // 2
    graph = onnx_proto.load(output.files["model.onnx"].path)
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.graph.input, *graph.graph.output)}
    assert kinds == {"input_ids": 7, "attention_mask": 7, "EMBEDDING": 1}
    session = Session(materialise(output.files, tmp_path / "model") / "model.onnx")
    ids = np.array([[2, 9, 3]])
    answer = session.run({"input_ids": ids, "attention_mask": np.ones_like(ids)}, ["EMBEDDING"])["EMBEDDING"]
    assert answer.shape == (1, WIDTH)
    assert answer.dtype == np.float32


def test_what_overflows_stays_in_fp32_and_is_named(loud: Made, tmp_path: Path) -> None:
    output = run(loud, tmp_path, precision="fp16")
    assert after(output) == [("export", True), ("fp16", True)]
    kept = {one["name"]: one for one in precision(output)["kept_fp32"]}
    assert kept["Pow_3"] == {"name": "Pow_3", "op": "Pow", "module": "words"}
    assert {"ReduceMean_4", "Add_5", "Sqrt_6"} <= kept.keys()
    assert not {"MatMul_9", "MatMul_12"} & kept.keys()


def test_an_overflow_that_nobody_looks_for_is_seen(loud: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control, and why the conversion is not simply run: onnxruntime answers right on the CPU."""
    monkeypatch.setattr("builder.tools.activations.overflowing", lambda *_: [])
    with pytest.raises(GateError, match="cosine"):
        run(loud, tmp_path / "store", precision="fp16", fallback=False)
    folder = tmp_path / "model"
    folder.mkdir()
    half.save(half.convert(onnx_proto.load(loud.folder / "model.onnx"), "fp16", []), loud.folder, folder)
    asked = questions(loud.inputs.reference, loud.inputs.tokens)
    answers = asked.ask(Session(folder / "model.onnx"))
    assert entry("fp16", "cosine", asked.expected, answers, CLOSE).within


def test_it_falls_back_in_order(quiet: Made, tmp_path: Path) -> None:
    output = run(quiet, tmp_path, precision="fp16", tolerances={"cosine": 1 - 1e-12})
    names = [name for name, _ in after(output)]
    assert [name.partition(",")[0] for name in names] == ["export", *["fp16"] * 3, *["bf16"] * 3, "fp32"]
    assert [within for _, within in after(output)] == [True, *[False] * 6, True]
    assert precision(output)["used"] == "fp32"
    assert digests(output) == digests(quiet.inputs.model)


def test_the_worst_operations_stay_in_fp32(quiet: Made, tmp_path: Path) -> None:
    """BF16 misses a tolerance that it keeps with the worst fifth of its operations in FP32."""
    first = run(quiet, tmp_path / "all", precision="bf16", tolerances={"cosine": 0.9})
    figure = precision(first)["ledger"][1]["figures"]["cosine"]
    second = run(quiet, tmp_path / "more", precision="bf16", tolerances={"cosine": figure + (1 - figure) * 0.01})
    assert precision(second)["used"] in {"bf16", "fp32"}
    assert after(second)[1] == ("bf16", False)
    assert "worst" in after(second)[2][0]


def test_a_recipe_may_forbid_it(quiet: Made, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"^fp16: cosine .*, limit 1"):
        run(quiet, tmp_path, precision="fp16", fallback=False, tolerances={"cosine": 1 - 1e-12})


def test_a_wrong_conversion_is_refused(quiet: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounded = half.rounded
    monkeypatch.setattr(half, "rounded", lambda values, kind: rounded(values[::-1], kind))
    with pytest.raises(GateError, match="cosine"):
        run(quiet, tmp_path, precision="fp16", fallback=False)


def test_an_export_that_is_wrong_is_refused(quiet: Made, tmp_path: Path) -> None:
    other = replace(quiet.inputs, model=write_model(tmp_path / "other", seed=4))
    with pytest.raises(ModelError, match="the exported model, in fp32: cosine"):
        Executor(Store.at(tmp_path), "test").run(Optimise("fp32", **CUDA, tolerances=CLOSE), other)


def test_fp32_is_the_model_itself_with_a_ledger(quiet: Made, tmp_path: Path) -> None:
    output = run(quiet, tmp_path, precision="fp32", tf32=True)
    assert digests(output) == digests(quiet.inputs.model)
    assert after(output) == [("export", True)]
    assert precision(output)["tf32"] is True


CPU = {"precision": "int8", "runtime": "onnxruntime", "capabilities": ()}


def operators(model: OnnxModel) -> list[str]:
    return [node.op_type for node in onnx_proto.load(model.files["model.onnx"].path).graph.node]


def test_int8_for_the_cpu(quiet: Made, tmp_path: Path) -> None:
    made = replace(quiet, inputs=replace(quiet.inputs, calibration=SAMPLES[:6]))
    output = run(made, tmp_path, **CPU, tolerances={"cosine": 0.99, "neighbour_agreement": 0.5})
    assert after(output) == [("export", True), ("int8 (calibration)", True), ("int8", True)]
    assert rowwise.DATA_FILE in output.files
    assert operators(output).count("MatMulIntegerToFloat") == 2
    assert "MatMul" not in operators(output)


def test_samples_that_settings_are_chosen_by_are_held_to_more(quiet: Made, tmp_path: Path) -> None:
    made = replace(quiet, inputs=replace(quiet.inputs, calibration=SAMPLES[:6]))
    output = run(made, tmp_path / "first", **CPU, tolerances={"cosine": 0.9, "neighbour_agreement": 0.5})
    kept = precision(output)["ledger"][1]["figures"]["neighbour_agreement"]
    output = run(made, tmp_path / "second", **CPU, tolerances={"cosine": 0.9, "neighbour_agreement": kept})
    assert after(output)[1] == ("int8 (calibration)", False)


def test_int8_for_tensorrt_is_q_dq_and_fp16(quiet: Made, tmp_path: Path) -> None:
    output = run(quiet, tmp_path, precision="int8", tolerances={"cosine": 0.98})
    assert after(output) == [("export", True), ("int8 (calibration)", True), ("int8", True)]
    assert {"QuantizeLinear", "DequantizeLinear", "MatMul"} <= set(operators(output))
    assert sorted(output.files) == ["calibration.json", "model.int8.data", "model.onnx"]
    calibrated = json.loads(output.files["calibration.json"].path.read_text(encoding="utf-8"))
    assert calibrated.keys() == {"normal", "bent"}
    kinds = {one.name: one.data_type for one in onnx_proto.load(output.files["model.onnx"].path).graph.initializer}
    assert kinds["words.weight"] == 10
    assert kinds["MatMul_9.weight_quantized"] == 3


def test_fp8_is_q_dq_and_fp16(quiet: Made, tmp_path: Path) -> None:
    output = run(quiet, tmp_path, **FP8, tolerances={"cosine": 0.98})
    assert after(output) == [("export", True), ("fp8 (calibration)", True), ("fp8", True)]
    assert precision(output)["ledger"][-1]["figures"]["cosine"] < 0.9995  # what is compared is rounded to 3 bits
    assert sorted(output.files) == ["calibration.json", "model.fp8.data", "model.onnx"]
    stored = {one.name: one for one in onnx_proto.load(output.files["model.onnx"].path).graph.initializer}
    assert stored["MatMul_9.weight_quantized"].data_type == stored["normal.divided_zero_point"].data_type == 17
    assert stored["words.weight"].data_type == 10
    chosen = json.loads(output.files["calibration.json"].path.read_text(encoding="utf-8"))
    assert all(2 <= one["cut"] < 4 and np.log2(one["scale"]) % 1 == 0 for one in chosen.values())


def test_fp8_that_cuts_values_off_is_seen(quiet: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: scales of which the samples' values are out of bounds."""
    monkeypatch.setattr("builder.tools.qdq._HEADROOM", 1 / 16)
    with pytest.raises(GateError, match=r"^fp8 \(calibration\): cosine"):
        run(quiet, tmp_path, **FP8, fallback=False, tolerances={"cosine": 0.98})


def test_fp8_is_compiled_for_gpus_that_have_it(quiet: Made, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    output = run(quiet, tmp_path / "store", **FP8, tolerances={"cosine": 0.98})
    model = materialise(output.files, tmp_path / "model") / "model.onnx"
    order = Order(model, "tensorrt-rtx", "8.9", (Profile((1, 2, 4), (2, 8, 32)),), EngineOptions())
    assert [one.dtype for one in build(order, tmp_path / "plan").outputs] == ["FP32"]
    with pytest.raises(ModelError, match="fp8_e4m3"):  # the negative control, and why the recipe's check is there
        build(replace(order, capability="8.6"), tmp_path / "none")


@pytest.mark.parametrize("target", [CPU, {"precision": "int8", **CUDA}, FP8], ids=["cpu", "tensorrt", "fp8"])
def test_products_that_do_damage_stay_as_they_are(
    quiet: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: dict[str, Any]
) -> None:
    monkeypatch.setattr("builder.optimise.attempts._KEPT_WEIGHTS", (0.0, 0.5))
    output = run(quiet, tmp_path / "first", **target, tolerances={"cosine": 0.9})
    figure = precision(output)["ledger"][-1]["figures"]["cosine"]
    output = run(quiet, tmp_path / "second", **target, tolerances={"cosine": figure + 1e-9})
    kind = target["precision"]
    assert [name for name, _ in after(output)][1:3] == [f"{kind} (calibration)", f"{kind}{_ONE_KEPT} (calibration)"]
    assert precision(output)["used"] == kind
    assert [one["op"] for one in precision(output)["kept_fp32"]] == ["MatMul"]
    assert precision(output)["kept_fp32"][0]["module"] in {"first.dense", "second.dense"}
    kinds = operators(output)
    assert kinds.count("MatMulIntegerToFloat") + kinds.count("QuantizeLinear") == (2 if target is CPU else 1)


def test_attempts_may_keep_as_many_products_and_others(
    quiet: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {0.0: (), 0.1: ("MatMul_9",), 0.2: ("MatMul_12",)}
    monkeypatch.setattr("builder.optimise.attempts._KEPT_WEIGHTS", tuple(kept))
    monkeypatch.setattr("builder.optimise.attempts._kept", lambda *said: kept[said[-1]])
    output = run(quiet, tmp_path, **FP8, tolerances={"cosine": 0.9999})
    assert [name for name, _ in after(output)][2:4] == [f"fp8{_ONE_KEPT} (calibration)"] * 2


_ONE_KEPT = ", without the worst 1 matrix products"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"precision": "fp8"}, r"fp8: GPUs have it from compute capability 8\.9 on, and this is 8\.6"),
        ({"precision": "fp8", "runtime": "onnxruntime", "capabilities": ()}, "onnxruntime multiplies no FP8"),
        ({"precision": "bf16", "runtime": "onnxruntime", "capabilities": ()}, "no BF16 kernels"),
        ({"precision": "bf16", "capabilities": ("8.6", "7.5")}, r"from compute capability 8\.0 on, and this is 7\.5"),
        ({"precision": "fp32", "runtime": "tensorrt-rtx", "capabilities": ("7.5",)}, "no FP32 matrix products"),
        ({"precision": "fp32", "tf32": True, "capabilities": ("7.5",)}, "tf32: GPUs have it"),
        ({"precision": "fp16", "tf32": True}, "a way to compute FP32"),
        ({"precision": "fp4"}, "allowed are fp32, fp16"),
    ],
)
def test_what_cannot_be_done_is_refused(quiet: Made, tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        run(quiet, tmp_path, **options)


@pytest.mark.parametrize("kind", ["fp16", "bf16", "int8"])
def test_tensorrts_parser_takes_it_strongly_typed(quiet: Made, tmp_path: Path, kind: str) -> None:
    library = pytest.importorskip("tensorrt_rtx_bindings")
    output = run(quiet, tmp_path / "store", precision=kind, tolerances={"cosine": 0.98})
    assert precision(output)["used"] == kind
    path = materialise(output.files, tmp_path / "model") / "model.onnx"
    logger = library.Logger(library.Logger.ERROR)
    builder = library.Builder(logger)
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = library.OnnxParser(network, logger)
    parsed = parser.parse_from_file(str(path))
    assert parsed, [parser.get_error(index).desc() for index in range(parser.num_errors)]
    assert network.get_output(0).dtype == library.float32
    assert network.get_input(0).dtype == library.int64
