"""Models in FP16 and BF16, on graphs of a few nodes: what onnxruntime's converter gets wrong is mended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.tools import half, onnx_proto
from builder.tools.onnxruntime import Session
from tests.tiny_graphs import ROWS, onnx_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def graph(folder: Path, nodes: Any, constants: dict[str, np.ndarray]) -> Path:
    """A model A → C whose constants of more than one value lie in ``data``; nodes are named by what they give."""
    import onnx

    folder.mkdir(parents=True)
    model = onnx.load_model_from_string(onnx_model({"A": ("FLOAT", ROWS)}, {"C": ("FLOAT", ROWS)}, nodes, constants))
    for node in model.graph.node:
        node.name = node.output[0]
    onnx.save_model(model, folder / "model.onnx", save_as_external_data=True, location="data", size_threshold=8)
    return folder


def chain(folder: Path) -> Path:
    """A * 300 * 300 / 90000: what comes in goes out, unless it passes through FP16 on its way."""
    nodes = [
        ("Mul", ["A", "k"], ["once"], {}),
        ("Mul", ["once", "k"], ["twice"], {}),
        ("Mul", ["twice", "r"], ["C"], {}),
    ]
    return graph(folder, nodes, {"k": np.full(4, 300, np.float32), "r": np.full(4, 1 / 90_000, np.float32)})


def converted(folder: Path, precision: str, keep: Sequence[str], out: Path) -> half.Half:
    """Writes model.onnx and emulated.onnx to ``out``, with the files of the original."""
    made = half.convert(onnx_proto.load(folder / "model.onnx"), precision, keep)
    out.mkdir()
    (out / "data").hardlink_to(folder / "data")
    half.save(made, folder, out)
    onnx_proto.save(half.emulated(made.proto), out / "emulated.onnx")
    return made


def answer(path: Path) -> Any:
    return Session(path).run({"A": np.array([[1, 2, 4, 1.001]], np.float32)}, ["C"])["C"]


def test_a_value_that_overflows_between_two_kept_nodes_does_not(tmp_path: Path) -> None:
    folder = chain(tmp_path / "model")
    converted(folder, "fp16", ["once", "twice", "C"], tmp_path / "kept")
    assert answer(tmp_path / "kept" / "emulated.onnx") == pytest.approx(np.array([[1, 2, 4, 1.001]]), rel=1e-3)
    converted(folder, "fp16", [], tmp_path / "none")
    assert np.isinf(answer(tmp_path / "none" / "emulated.onnx")).all()
    # onnxruntime leaves out the rounding that a GPU does: its own answer would hide the overflow.
    assert np.isfinite(answer(tmp_path / "none" / "model.onnx")).all()


def test_weights_of_kept_nodes_stay_where_they_are(tmp_path: Path) -> None:
    made = converted(chain(tmp_path / "model"), "fp16", ["twice"], tmp_path / "out")
    places = {one.name: (one.external_data[0].value, one.data_type) for one in made.proto.graph.initializer}
    assert places == {"k": ("model.fp16.data", 10), "k.fp32": ("data", 1), "r": ("model.fp16.data", 10)}
    assert (tmp_path / "out" / "model.fp16.data").stat().st_size == 16


def test_two_kept_nodes_may_take_the_same_value(tmp_path: Path) -> None:
    nodes = [
        ("Add", ["A", "k"], ["sum"], {}),
        ("Sin", ["sum"], ["left"], {}),
        ("Cos", ["sum"], ["right"], {}),
        ("Add", ["left", "right"], ["C"], {}),
    ]
    folder = graph(tmp_path / "model", nodes, {"k": np.full(4, 0.25, np.float32)})
    made = converted(folder, "fp16", ["left", "right"], tmp_path / "out")
    outputs = [name for node in made.proto.graph.node for name in node.output]
    assert len(outputs) == len(set(outputs))
    expected = answer(folder / "model.onnx")
    assert answer(tmp_path / "out" / "model.onnx") == pytest.approx(expected, abs=2e-3)
    assert answer(tmp_path / "out" / "emulated.onnx") == pytest.approx(expected, abs=2e-3)


def test_bf16_is_rounded_to_its_own_eight_bits(tmp_path: Path) -> None:
    made = converted(chain(tmp_path / "model"), "bf16", [], tmp_path / "out")
    kinds = half.dtypes(made.proto)
    assert {kinds[name] for name in ("k", "r", "once", "twice")} == {16}
    assert kinds["A"] == kinds["C"] == 1
    got = answer(tmp_path / "out" / "emulated.onnx")
    assert got == pytest.approx(np.array([[1, 2, 4, 1.001]]), rel=2e-2)
    assert got[0, 0] == got[0, 3]  # 1.001 is 1 in eight bits


def test_an_operator_without_bf16_stays_in_fp32(tmp_path: Path) -> None:
    nodes = [("Add", ["A", "k"], ["sum"], {}), ("Round", ["sum"], ["C"], {})]
    made = half.convert(
        onnx_proto.load(graph(tmp_path / "model", nodes, {"k": np.ones(4, np.float32)}) / "model.onnx"), "bf16", []
    )
    assert half.dtypes(made.proto)["sum"] == 16
    assert half.dtypes(made.proto)["C"] == 1
    widened = [node.input[0] for node in made.proto.graph.node if node.op_type == "Cast"]
    assert "sum" in widened


@pytest.mark.parametrize(
    ("values", "precision", "expected"),
    [
        ([1e6, -1e6, np.inf, 1.0], "fp16", [65504, -65504, np.inf, 1]),
        ([1e6, 3.4e38, 1.001, -np.inf], "bf16", [999424, 3.3895314e38, 1, -np.inf]),
    ],
)
def test_finite_weights_stay_finite(values: list[float], precision: str, expected: list[float]) -> None:
    got = half.rounded(np.array(values, np.float32), precision).astype(np.float32)
    assert got.tolist() == pytest.approx(expected)
