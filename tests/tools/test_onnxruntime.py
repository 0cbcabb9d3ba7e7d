"""Which external data onnxruntime takes, and how its errors read."""

import os

import numpy as np
import onnx_ir as ir
import pytest

from builder.errors import ModelError
from builder.tools import onnx_graph
from builder.tools.onnxruntime import Session

VALUES = np.arange(300, dtype=np.float32)


@pytest.fixture
def folder(tmp_path):
    """A model that adds the external data to its input; the data lies elsewhere."""
    data = ir.ExternalTensor("data.bin", 8, VALUES.nbytes, ir.DataType.FLOAT, shape=ir.Shape([300]), name="w")
    weight = ir.Value(name="w", shape=ir.Shape([300]), type=ir.TensorType(ir.DataType.FLOAT), const_value=data)
    given = ir.Value(name="x", shape=ir.Shape([300]), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.node("Add", [given, weight])
    node.outputs[0].name, node.outputs[0].shape, node.outputs[0].type = "y", given.shape, given.type
    graph = ir.Graph([given], [node.outputs[0]], nodes=[node], initializers=[weight], opset_imports={"": 20}, name="g")
    (tmp_path / "model").mkdir()
    onnx_graph.save(ir.Model(graph, ir_version=10), tmp_path / "model" / "model.onnx")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "data.bin").write_bytes(b"\0" * 8 + VALUES.tobytes())
    return tmp_path / "model"


def test_hard_linked_data_is_taken(folder):
    os.link(folder.parent / "elsewhere" / "data.bin", folder / "data.bin")

    outputs = Session(folder / "model.onnx").run({"x": np.ones(300, np.float32)}, ["y"])

    assert np.array_equal(outputs["y"], VALUES + 1)


def test_a_symbolic_link_that_leaves_the_folder_is_not(folder):
    (folder / "data.bin").symlink_to(folder.parent / "elsewhere" / "data.bin")

    with pytest.raises(ModelError, match="onnxruntime cannot load the model"):
        Session(folder / "model.onnx")


def test_missing_data_is_an_error(folder):
    with pytest.raises(ModelError, match=r"onnxruntime cannot load the model.*data\.bin"):
        Session(folder / "model.onnx")


def test_inputs_that_do_not_fit_are_an_error(folder):
    os.link(folder.parent / "elsewhere" / "data.bin", folder / "data.bin")

    with pytest.raises(ModelError, match="onnxruntime cannot run the model"):
        Session(folder / "model.onnx").run({"x": np.ones(299, np.float32)}, ["y"])
