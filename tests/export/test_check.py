"""The check stage, and that it fails when it must."""

import dataclasses
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from builder.artifacts import OnnxModel
from builder.core.digest import describe_file
from builder.core.execute import Executor
from builder.core.store import Store
from builder.errors import ModelError
from builder.export.check import Check
from builder.tools import hf, onnx_graph, torch_heads
from builder.tools.heads import Normalize, Pooling
from builder.tools.safetensors_values import save_arrays

TASK = "sentence-embedding"


@pytest.fixture(scope="module")
def bert(exported):
    return exported("bert", TASK)


def run(model, built, tmp_path):
    return Executor(Store.at(tmp_path), "test").run(Check(), (model, built.reference))


@pytest.fixture(scope="module")
def frozen(bert, tmp_path_factory):
    """The same model, exported without dynamic shapes."""
    import torch

    names = bert.tokenizer.input_names
    head = torch_heads.with_head(
        hf.load_model(bert.folder, TASK),
        ("last_hidden_state",),
        (Pooling(("mean",)), Normalize()),
        names,
        bert.tokenizer.padding_side,
    )
    example = tuple(torch.full((3, 7), index) for index in (5, 1, 0))
    path = tmp_path_factory.mktemp("frozen") / "model.onnx"
    with torch.no_grad(), pytest.warns(FutureWarning):
        program = torch.onnx.export(
            head,
            example,
            dynamo=True,
            optimize=False,
            input_names=list(names),
            output_names=["EMBEDDING"],
            verbose=False,
        )
    onnx_graph.save(program.model, path)
    return dataclasses.replace(bert.model, files={"model.onnx": describe_file(path)})


def test_a_graph_that_is_frozen_at_the_traced_shape_fails(bert, frozen, tmp_path):
    with pytest.raises(ModelError, match="at batch 1, sequence 2: onnxruntime cannot run the model"):
        run(frozen, bert, tmp_path)


def test_other_weights_fail_with_shape_output_and_figure(bert, tmp_path):
    copy = tmp_path / "model.safetensors"
    shutil.copyfile(bert.model.files["model.safetensors"].path, copy)
    weights = load_file(copy)
    name = "encoder.layer.1.output.LayerNorm.bias"
    weights[name] = weights[name] + np.linspace(0, 1, 32, dtype=np.float32)
    save_file(weights, copy, metadata={"format": "pt"})
    model = dataclasses.replace(bert.model, files={**bert.model.files, "model.safetensors": describe_file(copy)})

    with pytest.raises(ModelError, match=r"EMBEDDING at batch 1, sequence 2: differs from transformers by 0\.\d+"):
        run(model, bert, tmp_path)


def test_a_file_that_onnxruntime_does_not_take_fails(bert, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    model = OnnxModel({"model.onnx": describe_file(path)}, bert.model.inputs, bert.model.outputs, 20, {})

    with pytest.raises(ModelError, match="onnxruntime cannot load the model"):
        run(model, bert, tmp_path)


def test_the_record_holds_the_differences(bert):
    assert all(set(check["difference"]) == {"EMBEDDING"} for check in bert.model.record["checks"])
    assert bert.model.record["bound"] > 0  # what bind recorded is still there


def test_a_reference_without_probes_proves_nothing(bert, tmp_path):
    arrays = {name: value for name, value in bert.expected.items() if not name.startswith("probe.")}
    path = tmp_path / "expected.safetensors"
    save_arrays(arrays, path)
    reference = dataclasses.replace(bert.reference, files={"expected.safetensors": describe_file(path)})

    with pytest.raises(ModelError, match="no probes"):
        Executor(Store.at(tmp_path), "test").run(Check(), (bert.model, reference))
