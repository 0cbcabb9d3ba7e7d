"""Cleaning a traced graph: what must go, what must stay."""

import numpy as np
import onnx_ir as ir
import pytest
import torch

from builder.errors import InternalError, ModelError
from builder.tools import onnx_graph, torch_export
from builder.tools.onnxruntime import Session


class Small(torch.nn.Module):
    """A layer whose weight is small enough to be folded, if nobody forbids it."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.unused = torch.nn.Linear(4, 4)

    def forward(self, *inputs):
        ids, mask = inputs
        value = torch.stack([ids, mask, ids * 2, mask + ids], dim=-1).float()
        return torch.softmax(self.linear(value).sum(dim=1), dim=-1)


PARAMETERS = {"linear.weight", "linear.bias"}


@pytest.fixture
def traced():
    torch.manual_seed(0)
    example = {"input_ids": np.ones((3, 7), np.int64), "attention_mask": np.ones((3, 7), np.int64)}
    return torch_export.export(Small().eval(), example, ["EMBEDDING"], 20)


@pytest.fixture
def inputs():
    random = np.random.default_rng(0)
    return {"input_ids": random.integers(0, 9, (2, 5)), "attention_mask": np.ones((2, 5), np.int64)}


def run(model, inputs, folder):
    onnx_graph.save(model, folder / "model.onnx")
    return Session(folder / "model.onnx").run(inputs, ["EMBEDDING"])["EMBEDDING"]


def test_the_exporter_leaves_notes_and_cleaning_removes_them(traced, tmp_path):
    onnx_graph.save(traced, tmp_path / "raw.onnx")
    assert b"pkg." in (tmp_path / "raw.onnx").read_bytes()  # control: they are there

    onnx_graph.clean(traced, PARAMETERS)

    onnx_graph.save(traced, tmp_path / "clean.onnx")
    content = (tmp_path / "clean.onnx").read_bytes()
    assert b".py" not in content
    assert b"pkg." not in content
    assert traced.producer_name == "tritonsmith"


def test_cleaning_changes_no_result(traced, inputs, tmp_path):
    before = run(traced, inputs, tmp_path)

    onnx_graph.clean(traced, PARAMETERS)

    assert np.array_equal(run(traced, inputs, tmp_path), before)


def test_shapes_of_values_in_between_go_and_those_of_inputs_and_outputs_are_named(traced):
    assert any(value.shape is not None for node in traced.graph for value in node.outputs)

    onnx_graph.clean(traced, PARAMETERS)

    inner = {value for node in traced.graph for value in node.outputs} - set(traced.graph.outputs)
    assert inner
    assert all(value.shape is None and value.type is None for value in inner)
    assert [str(value.shape) for value in traced.graph.inputs] == ["[batch,sequence]"] * 2
    assert [str(value.shape) for value in traced.graph.outputs] == ["[batch,4]"]


def test_parameters_are_never_folded_however_small(traced):
    onnx_graph.clean(traced, PARAMETERS)

    assert set(onnx_graph.initializer_names(traced)) >= PARAMETERS
    assert not [name for name in onnx_graph.initializer_names(traced) if "unused" in name]


def test_what_is_not_named_a_parameter_is_folded(traced):
    onnx_graph.clean(traced, set())

    assert "linear.weight" not in onnx_graph.initializer_names(traced)  # its transpose stands there instead


def test_an_unbound_initializer_keeps_name_dtype_and_shape_and_can_be_bound(traced, inputs, tmp_path):
    onnx_graph.clean(traced, PARAMETERS)
    expected = run(traced, inputs, tmp_path)
    weight = traced.graph.initializers["linear.weight"].const_value.numpy().copy()
    bias = traced.graph.initializers["linear.bias"].const_value.numpy().copy()
    onnx_graph.unbind(traced, PARAMETERS)
    onnx_graph.save(traced, tmp_path / "graph.onnx")

    model = onnx_graph.load(tmp_path / "graph.onnx")
    assert set(onnx_graph.unbound(model)) == PARAMETERS
    (tmp_path / "weights").write_bytes(b"before" + weight.tobytes() + b"after")
    onnx_graph.point(model, "linear.weight", "weights", 6, 64)
    onnx_graph.embed(model, "linear.bias", bias)

    assert onnx_graph.unbound(model) == ()
    assert np.array_equal(run(model, inputs, tmp_path), expected)


def test_data_of_another_size_or_dtype_is_an_error_of_ours(traced):
    onnx_graph.clean(traced, PARAMETERS)

    with pytest.raises(InternalError, match="64 bytes, but 60"):
        onnx_graph.point(traced, "linear.weight", "weights", 0, 60)
    with pytest.raises(InternalError, match="given"):
        onnx_graph.embed(traced, "linear.weight", np.zeros((4, 4), np.float64))
    with pytest.raises(InternalError, match="given"):
        onnx_graph.embed(traced, "linear.weight", np.zeros((4, 5), np.float32))


def test_tensors_are_stated_in_tritons_words(traced):
    (output,) = onnx_graph.tensors(traced.graph.outputs)
    assert (output.name, output.dtype, output.shape) == ("EMBEDDING", "FP32", (-1, 4))
    traced.graph.outputs[0].dtype = ir.DataType.DOUBLE

    with pytest.raises(ModelError, match="EMBEDDING is DOUBLE"):
        onnx_graph.tensors(traced.graph.outputs)
