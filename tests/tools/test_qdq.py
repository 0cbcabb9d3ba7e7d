"""Q/DQ for TensorRT: onnxruntime's quantiser, told the scales that suit the products."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.errors import ModelError
from builder.tools import onnx_proto, qdq
from builder.tools.onnxruntime import Session
from builder.tools.products import products
from tests.tools.test_half import graph

if TYPE_CHECKING:
    from pathlib import Path

WIDTH = 32
WEIGHT = np.random.default_rng(3).normal(size=(WIDTH, WIDTH)).astype(np.float32)


def values() -> Any:
    """Rows whose fifth column is large, and one value that happens once."""
    made = np.random.default_rng(4).normal(size=(300, WIDTH)).astype(np.float32)
    made[:, 5] *= 20
    made[7, 3] = 200
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    nodes = [("Transpose", ["w"], ["turned"], {"perm": [1, 0]}), ("MatMul", ["A", "turned"], ["C"], {})]
    return graph(tmp_path / "model", nodes, {"w": WEIGHT})


def relative_error(folder: Path, chosen: qdq.Setting) -> float:
    model = onnx_proto.load(folder / "model.onnx")
    whole = qdq.quantise(model, folder, products(model), {"A": chosen}, {"A": values()}, folder)
    kinds = [node.op_type for node in whole.graph.node]
    assert (kinds.count("QuantizeLinear"), kinds.count("DequantizeLinear")) == (1, 2)  # weights are stored as INT8
    onnx_proto.save(whole, folder / "int8.onnx")
    exact, answer = (Session(folder / name).run({"A": values()}, ["C"])["C"] for name in ("model.onnx", "int8.onnx"))
    assert sorted(file.name for file in folder.iterdir()) == ["data", "int8.onnx", "model.onnx"]
    return float(np.square(answer - exact).mean() / np.square(exact).mean())


def test_the_products_come_out_better_than_by_the_values_alone(folder: Path) -> None:
    chosen = qdq.settings({"A": values()}, {"A": [WEIGHT.T]})["A"]
    assert chosen.strength > 0
    by_values = qdq.Setting(np.ones(WIDTH, np.float32), float(np.abs(values()).max()) / 127, 0.0, 1.0)
    assert relative_error(folder, chosen) < 1e-3
    assert relative_error(folder, by_values) > 5 * relative_error(folder, chosen)


def test_fp8_begins_at_an_opset(folder: Path) -> None:
    model = onnx_proto.load(folder / "model.onnx")
    model.opset_import[0].version = 18
    chosen = qdq.fp8_settings({"A": values()})
    with pytest.raises(ModelError, match="the model is of ONNX opset 18; FP8 begins at 19"):
        qdq.quantise(model, folder, products(model), chosen, {"A": values()}, folder, "fp8")


def test_a_model_that_the_tool_cannot_take_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qdq, "LARGEST_MODEL_BYTES", 1000)
    model = onnx_proto.load(folder / "model.onnx")
    chosen = qdq.settings({"A": values()}, {"A": [WEIGHT.T]})
    with pytest.raises(ModelError, match="onnxruntime's quantiser takes"):
        qdq.quantise(model, folder, products(model), chosen, {"A": values()}, folder)
