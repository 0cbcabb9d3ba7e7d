"""Tracing: dynamic shapes, inputs that stay apart, and silence."""

import gc

import numpy as np
import pytest
import torch

from builder.errors import ModelError
from builder.tools import onnx_graph, plain_program, torch_export
from builder.tools.onnxruntime import Session


class Sum(torch.nn.Module):
    def forward(self, *inputs):
        first, second, third = inputs
        return first.float() + 2 * second.float() + 4 * third.float(), third.sum(dim=1, keepdim=True).float()


class Branch(torch.nn.Module):
    def forward(self, *inputs):
        return inputs[0] + 1 if inputs[0].sum() > 3 else inputs[0]


ONES = np.ones((3, 7), np.int64)


def test_inputs_that_hold_the_same_array_stay_apart_and_shapes_are_dynamic(tmp_path):
    model = torch_export.export(Sum(), {"a": ONES, "b": ONES, "c": ONES}, ["SUM", "TOTAL"], 20)
    onnx_graph.save(model, tmp_path / "model.onnx")
    random = np.random.default_rng(0)

    for shape in ((1, 1), (2, 9), (9, 2)):
        inputs = {name: random.integers(0, 9, shape) for name in "abc"}
        outputs = Session(tmp_path / "model.onnx").run(inputs, ["SUM", "TOTAL"])
        assert np.array_equal(outputs["SUM"], inputs["a"] + 2 * inputs["b"] + 4 * inputs["c"])
        assert np.array_equal(outputs["TOTAL"], inputs["c"].sum(axis=1, keepdims=True))


def test_what_depends_on_the_data_cannot_be_traced():
    with pytest.raises(ModelError, match="torch cannot trace the model"):
        torch_export.export(Branch(), {"a": ONES}, ["SUM"], 20)
    assert gc.isenabled()


def test_says_nothing(capfd):
    torch_export.export(Sum(), {"a": ONES, "b": ONES, "c": ONES}, ["SUM", "TOTAL"], 20)

    assert capfd.readouterr() == ("", "")


class Mask(torch.nn.Module):
    """What the long way would rename: dtypes that are changed, dtypes that are not, and Python's operators."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(1, 5)

    def forward(self, *inputs):
        ids, mask = inputs
        both = (ids > 2) & (mask > 0)
        value = ids.to(torch.float32).to(torch.float32) * both.type_as(self.linear.weight)
        answer = torch.softmax(self.linear(value.reshape(*ids.shape, 1)).contiguous(), dim=-1)
        return answer + 0.5 * mask.unsqueeze(-1)


class InPlace(Mask):
    """The same with an operator that changes its input."""

    def forward(self, *inputs):
        value = super().forward(*inputs)
        value += 1
        return value


def _as_data(model):
    """All that a graph holds but the names that were made up for its values."""
    numbers = {}

    def number(value):
        made_up = value is not None and (value.producer() is not None or value.name.startswith("val_"))
        return numbers.setdefault(id(value), len(numbers)) if made_up else value and value.name

    nodes = [
        (
            node.op_type,
            [number(value) for value in node.inputs],
            [number(value) for value in node.outputs],
            sorted((name, str(attribute)) for name, attribute in node.attributes.items()),
        )
        for node in model.graph
    ]
    data = [value.const_value.numpy().tolist() for value in model.graph.initializers.values()]
    return nodes, data


@pytest.mark.parametrize(("module", "is_short"), [(Mask, True), (InPlace, False)])
def test_the_short_way_leads_to_the_same_graph(module, is_short):
    torch.manual_seed(0)
    made = module().eval()
    example = {"input_ids": ONES + 2, "attention_mask": ONES}
    graphs = []
    for shortcut in (True, False):
        model = torch_export.export(made, example, ["EMBEDDING"], 20, shortcut=shortcut)
        onnx_graph.clean(model, {"linear.weight", "linear.bias"})
        graphs.append(_as_data(model))

    assert graphs[0] == graphs[1]
    program = torch_export.trace(made, tuple(map(torch.from_numpy, example.values())))
    assert plain_program.is_plain(program) == is_short
