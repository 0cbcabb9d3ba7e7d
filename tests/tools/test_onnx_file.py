"""Pointing initializers at their data in a file's bytes: the same as onnx_ir does."""

import numpy as np
import onnx_ir as ir
import pytest

from builder.errors import InternalError
from builder.tools import onnx_file, onnx_graph
from builder.tools.onnx_file import Place


@pytest.fixture
def path(tmp_path):
    """A graph with two initializers without data, and one with data."""
    a, b, c = (
        ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))
        for name, shape, dtype in (
            ("a", (300, 2), ir.DataType.FLOAT),
            ("ü.b", (), ir.DataType.INT64),
            ("c", (2,), ir.DataType.FLOAT),
        )
    )
    c.const_value = ir.Tensor(np.array([1, 2], np.float32), name="c")
    added = ir.Node("", "Add", [a, c], num_outputs=1)
    cast = ir.Node("", "Cast", [b], {"to": ir.AttrInt64("to", 1)}, num_outputs=1)
    graph = ir.Graph(
        [], [*added.outputs, *cast.outputs], nodes=[added, cast], initializers=[a, b, c],
        opset_imports={"": 20}, name="main",
    )  # fmt: skip
    for value in (a, b):
        value.const_value = ir.ExternalTensor(
            onnx_file.UNBOUND, None, None, value.dtype, shape=value.shape, name=value.name
        )
    path = tmp_path / "graph.onnx"
    onnx_graph.save(ir.Model(graph, ir_version=10), path)
    return path


def test_the_bytes_are_those_that_onnx_ir_writes(path, tmp_path):
    model = onnx_graph.load(path)
    places = {"a": Place("weights", 2**33, 2400), "ü.b": Place("other weights", 0, 8)}
    for name, place in places.items():
        onnx_graph.point(model, name, place.location, place.offset, place.length)
    onnx_graph.save(model, tmp_path / "model.onnx")

    assert onnx_file.point(path.read_bytes(), places) == (tmp_path / "model.onnx").read_bytes()


def test_what_is_not_named_stays_as_it_is(path):
    content = path.read_bytes()

    assert onnx_file.point(content, {}) == content
    assert onnx_file.unbound(content) == onnx_graph.unbound(onnx_graph.load(path)) == ("a", "ü.b")
    assert onnx_file.unbound(onnx_file.point(content, {"a": Place("weights", 0, 2400)})) == ("ü.b",)


def test_another_name_or_length_is_an_error_of_ours(path):
    with pytest.raises(InternalError, match="no initializer d"):
        onnx_file.point(path.read_bytes(), {"d": Place("weights", 0, 2400)})
    with pytest.raises(InternalError, match="initializer a: 2400 bytes, but 2396 stand in weights"):
        onnx_file.point(path.read_bytes(), {"a": Place("weights", 0, 2396)})
