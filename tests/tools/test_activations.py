"""What goes through a graph: its largest values, the damage of a conversion, the modules that nodes come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from builder.tools import activations, half, onnx_proto
from tests.tools.test_half import chain, graph

if TYPE_CHECKING:
    from pathlib import Path

BATCHES = [{"A": np.array([[1, -2, 0.5, 1]], np.float32)}, {"A": np.array([[3, 0, 0, 0]], np.float32)}]


def test_the_largest_of_all_batches_counts(tmp_path: Path) -> None:
    folder = chain(tmp_path / "model")
    model = onnx_proto.load(folder / "model.onnx")
    largest = activations.magnitudes(model, folder, BATCHES)
    assert largest == pytest.approx({"once": 900, "twice": 270_000, "C": 3})
    assert activations.overflowing(model, largest) == ["twice", "C"]  # the last one takes it
    assert sorted(file.name for file in folder.iterdir()) == ["data", "model.onnx"]


def test_a_mask_is_no_overflow(tmp_path: Path) -> None:
    nodes = [("Add", ["A", "mask"], ["masked"], {}), ("Softmax", ["masked"], ["C"], {})]
    mask = np.array([0, 0, np.finfo(np.float32).min, -np.inf], np.float32)
    folder = graph(tmp_path / "model", nodes, {"mask": mask})
    model = onnx_proto.load(folder / "model.onnx")
    assert activations.overflowing(model, activations.magnitudes(model, folder, BATCHES)) == []


@pytest.mark.parametrize(("size", "kept"), [(50.0, []), (200.0, ["C"])])
def test_what_a_normalisation_squares_counts(tmp_path: Path, size: float, kept: list[str]) -> None:
    nodes = [("Mul", ["A", "k"], ["large"], {}), ("LayerNormalization", ["large", "one"], ["C"], {"axis": -1})]
    folder = graph(tmp_path / "model", nodes, {"k": np.full(4, size, "f"), "one": np.ones(4, "f")})
    model = onnx_proto.load(folder / "model.onnx")
    assert activations.overflowing(model, activations.magnitudes(model, folder, [{"A": np.eye(4, dtype="f")}])) == kept


def test_damage_names_the_node_that_does_it(tmp_path: Path) -> None:
    nodes = [
        ("Mul", ["A", "k"], ["fine"], {}),
        ("Add", ["fine", "thousand"], ["coarse"], {}),
        ("Sub", ["coarse", "thousand"], ["C"], {}),
    ]
    constants = {"k": np.full(4, 0.5, np.float32), "thousand": np.full(4, 1000, np.float32)}
    folder = graph(tmp_path / "model", nodes, constants)
    model = onnx_proto.load(folder / "model.onnx")
    made = half.convert(model, "fp16", [])
    half.save(made, folder, folder)
    found = activations.damage(model, half.emulated(made.proto), folder, [{"A": np.array([[0.3, 0.7, 0.9, 0.1]], "f")}])
    assert next(iter(found)) == "C"  # what was lost in 1000.15 shows when 1000 is taken away
    assert found["C"] > 100 * found.get("fine", 0)


def test_nodes_are_named_by_the_modules_of_their_weights(tmp_path: Path) -> None:
    nodes = [
        ("Mul", ["A", "encoder.layer.0.dense.weight"], ["product"], {}),
        ("Relu", ["product"], ["active"], {}),
        ("Add", ["active", "encoder.layer.1.norm.bias"], ["C"], {}),
    ]
    weights = {"encoder.layer.0.dense.weight": np.ones(4, "f"), "encoder.layer.1.norm.bias": np.ones(4, "f")}
    model = onnx_proto.load(graph(tmp_path / "model", nodes, weights) / "model.onnx")
    assert activations.modules(model) == {
        "product": "encoder.layer.0.dense",
        "active": "encoder.layer.0.dense",
        "C": "encoder.layer.1.norm",
    }
