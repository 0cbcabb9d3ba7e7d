"""Where a node is, in the words of the source model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.tools.onnx_place import module_of
from tests.engine.graphs import encoder

if TYPE_CHECKING:
    from pathlib import Path


def test_the_module_of_a_node(tmp_path: Path) -> None:
    path = encoder(tmp_path / "model").files["model.onnx"].path
    expected = {
        "node_Gather_2": "embeddings.words",
        "node_MatMul_5": "encoder.layer.0.key",
        "node_Transpose_7": "encoder.layer.0.key",  # follows it
        "turned": "encoder.layer.0.key",  # by an output
        "node_MatMul_10": "encoder.layer.0.value",
        "node_Shape_0": "",  # depends on no parameter
        "node_Nothing_99": "",
        "": "",
    }
    assert {name: module_of(path, name) for name in expected} == expected
