from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from builder.tools import external, onnx_proto
from tests.tools.test_half import graph

if TYPE_CHECKING:
    from pathlib import Path

NODES = [("Mul", ["A", "used"], ["one"], {}), ("Add", ["one", "other"], ["C"], {})]


def test_what_is_used_of_a_largely_unused_file_is_copied(tmp_path: Path) -> None:
    values = {"used": np.arange(4, dtype=np.float32), "other": np.ones(4, np.float32)}
    folder = graph(tmp_path / "model", NODES, values)
    model = onnx_proto.load(folder / "model.onnx")
    onnx_proto.gather(model, folder, "copied", ["data"])
    assert onnx_proto.data_files(model) == {"data"}  # all of it is used: it stays
    with (folder / "data").open("ab") as stream:
        stream.write(bytes(100))
    onnx_proto.gather(model, folder, "copied", ["data"])
    assert onnx_proto.data_files(model) == {"copied"}
    assert (folder / "copied").stat().st_size == 32
    stored = {one.name: external.values(one, folder).tolist() for one in model.graph.initializer}
    assert stored == {name: value.tolist() for name, value in values.items()}


def test_nodes_get_names_of_their_own(tmp_path: Path) -> None:
    folder = graph(tmp_path / "model", NODES, {"used": np.ones(4, np.float32), "other": np.ones(4, np.float32)})
    model = onnx_proto.load(folder / "model.onnx")
    model.graph.node[0].name, model.graph.node[1].name = "Add_1", ""
    onnx_proto.save(model, folder / "model.onnx")
    assert [node.name for node in onnx_proto.load(folder / "model.onnx").graph.node] == ["Add_1", "Add_1.unnamed"]


def test_large_tensors_are_moved_out(tmp_path: Path) -> None:
    import onnx

    nodes = [("Add", ["A", "used"], ["C"], {})]
    folder = graph(tmp_path / "model", nodes, {"used": np.arange(300, dtype=np.float32)})
    model = onnx.load(folder / "model.onnx")
    onnx_proto.externalise(model, folder, "moved")
    assert (folder / "moved").stat().st_size == 1200
    assert external.values(model.graph.initializer[0], folder).tolist() == list(range(300))
