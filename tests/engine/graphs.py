"""A tiny encoder as an ONNX file: one layer of attention with the names that traced models have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from builder.artifacts import OnnxModel, Profile, Tensor
from builder.core.digest import describe_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WIDTH, WORDS, POSITIONS = 16, 40, 48
PROFILES = (Profile((1, 2, 4), (2, 8, 16)), Profile((1, 2, 4), (17, 32, 32)))
DATA = "weights.safetensors"


def encoder(folder: Path, precision: str = "fp16", more: Sequence[Any] = ()) -> OnnxModel:
    """The model in a folder, its weights in a file beside it.

    Args:
        folder: made anew.
        precision: fp16 | fp32.
        more: nodes that come last; ``HIDDEN`` [batch, sequence, width] is there for them.
    """
    folder.mkdir(parents=True)
    kind, dtype = (TensorProto.FLOAT16, np.float16) if precision == "fp16" else (TensorProto.FLOAT, np.float32)
    random = np.random.default_rng(0)
    shapes = {
        "model.embeddings.words.weight": (WORDS, WIDTH),
        "model.embeddings.positions.weight": (1, POSITIONS, WIDTH),
        **{f"model.encoder.layer.0.{name}.weight": (WIDTH, WIDTH) for name in ("query", "key", "value")},
    }
    values = {name: random.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    layer = [f"model.encoder.layer.0.{name}.weight" for name in ("query", "key", "value")]
    node = helper.make_node
    nodes = [
        node("Shape", ["input_ids"], ["length"], "node_Shape_0", start=1, end=2),
        node("Slice", ["model.embeddings.positions.weight", "zero", "length", "one"], ["at"], "node_Slice_1"),
        node("Gather", ["model.embeddings.words.weight", "input_ids"], ["words"], "node_Gather_2"),
        node("Add", ["words", "at"], ["embedded"], "node_Add_3"),
        *(node("MatMul", ["embedded", name], [f"p{at}"], f"node_MatMul_{4 + at}") for at, name in enumerate(layer)),
        node("Transpose", ["p1"], ["turned"], "node_Transpose_7", perm=[0, 2, 1]),
        node("MatMul", ["p0", "turned"], ["scores"], "node_MatMul_8"),
        node("Softmax", ["scores"], ["shares"], "node_Softmax_9", axis=-1),
        node("MatMul", ["shares", "p2"], ["HIDDEN"], "node_MatMul_10"),
        *(more or [node("ReduceMean", ["HIDDEN"], ["EMBEDDING"], "node_ReduceMean_11", axes=[1], keepdims=0)]),
    ]
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("EMBEDDING", kind, ["batch", WIDTH])],
        [
            *(_external(folder, name, value) for name, value in values.items()),
            numpy_helper.from_array(np.array([0], np.int64), "zero"),
            numpy_helper.from_array(np.array([1], np.int64), "one"),
        ],
    )
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=8), folder / "model.onnx")
    return OnnxModel(
        files={name: describe_file(folder / name) for name in ("model.onnx", DATA)},
        inputs=(Tensor("input_ids", "INT64", (-1, -1)),),
        outputs=(Tensor("EMBEDDING", "FP16" if precision == "fp16" else "FP32", (-1, WIDTH)),),
        opset=17,
        record={"precision": {"asked": precision, "used": precision}},
    )


def _external(folder: Path, name: str, value: np.ndarray) -> TensorProto:
    """An initializer whose data is appended to the weights' file."""
    with (folder / DATA).open("ab") as stream:
        offset = stream.tell()
        stream.write(value.tobytes())
    tensor = TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(value.dtype),
        dims=value.shape,
        data_location=TensorProto.EXTERNAL,
    )
    for key, fact in {"location": DATA, "offset": offset, "length": value.nbytes}.items():
        tensor.external_data.add(key=key, value=str(fact))
    return tensor
