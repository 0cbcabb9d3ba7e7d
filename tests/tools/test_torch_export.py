"""Tracing: dynamic shapes, inputs that stay apart, and silence."""

import gc

import numpy as np
import pytest
import torch

from builder.errors import ModelError
from builder.tools import onnx_graph, torch_export
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
