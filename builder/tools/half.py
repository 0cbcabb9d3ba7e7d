"""ONNX models in FP16 and BF16: onnxruntime's converter, and what it takes to rely on it.

The converter gets the graph without its weights: they stand in as inputs, so that a model of any size is converted in
a moment, and weights of operations that stay in FP32 go on lying where they are. What it gets wrong is mended here:

* two operations in FP32 that take the same value get a Cast of the same name each: the file is not valid;
* between two operations in FP32 the value goes through FP16, where it overflows: what they were kept in FP32 for;
* a weight of an operation in FP32 goes through FP16 too where another operation takes it.

It knows no BF16: there, its casts are taken and the type replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder.errors import ModelError
from builder.tools import external, onnx_proto

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from builder.tools.opaque import Array

FP16, BF16 = "fp16", "bf16"

LARGEST_FP16: Final = 65504.0

Proto = Any
"""An ``onnx.ModelProto``, or a message in it."""

_LARGEST_BF16: Final = 3.3895313892515355e38

_SMALLEST: Final = 5.96e-8  # above 0, of FP16


@dataclass(frozen=True, slots=True)
class Half:
    """A converted model, in memory; its weights are not converted yet."""

    proto: Proto
    precision: str


def convert(model: Proto, precision: str, keep: Collection[str]) -> Half:
    """The graph of a model with its operations in FP16 or BF16; names and dtypes of inputs and outputs stay.

    Args:
        model: the graph in FP32; it stays as it is, and its external data is not read.
        precision: fp16 or bf16.
        keep: names of the nodes that stay in FP32. Operations that a half precision does not exist for stay too.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    kept = {*keep, *(_without_bf16(proto) if precision == BF16 else ())}
    edges = [value.name for value in (*proto.graph.input, *proto.graph.output)]
    weights = _weights_as_inputs(proto)
    proto = convert_float_to_float16(
        proto,
        keep_io_types=edges,
        node_block_list=sorted(kept),
        min_positive_val=_SMALLEST,
        max_finite_val=LARGEST_FP16,
    )
    _mend(proto.graph, weights, edges)
    _weights_back(proto.graph, weights)
    if precision == BF16:
        _as_bf16(proto)
    return Half(onnx_proto.in_order(proto), precision)


def save(half: Half, source: Path, out: Path) -> Path:
    """Writes ``model.onnx`` and ``model.<precision>.data`` with the weights that were converted.

    Args:
        half: the graph.
        source: folder of the model that it was made of.
        out: folder to write to.

    Returns:
        ``out / "model.onnx"``. It also refers to those files of ``source`` whose data stays as it is.
    """
    import onnx

    name = f"model.{half.precision}.data"
    converted = [one for one in half.proto.graph.initializer if external.is_external(one) and _is_half(one.data_type)]
    if converted:
        with (out / name).open("wb") as stream:
            for one in converted:
                offset = stream.tell()
                values = rounded(external.values(one, source, onnx.TensorProto.FLOAT), half.precision)
                stream.write(values.tobytes())
                external.point(one, name, offset, values.nbytes)
    onnx.save_model(half.proto, out / "model.onnx")
    return out / "model.onnx"


def rounded(values: Array, precision: str) -> Array:
    """FP32 values in FP16, or in BF16 as numpy knows it from ``ml_dtypes``. Finite values stay finite."""
    import ml_dtypes
    import numpy as np

    kind, limit = (np.float16, LARGEST_FP16) if precision == FP16 else (ml_dtypes.bfloat16, _LARGEST_BF16)
    return np.where(np.isinf(values), values, np.clip(values, -limit, limit)).astype(kind)


def emulated(half: Proto) -> Proto:
    """The same model so that onnxruntime computes on the CPU what a GPU does: FP32 sums, rounded after each operation.

    onnxruntime itself leaves the rounding out between two operations that it has no FP16 kernel for (most of them on
    the CPU): a value that overflows on a GPU does not do so there. And it has no BF16 kernels.
    """
    import onnx
    from onnx import TensorProto, helper

    made = onnx.ModelProto()
    made.CopyFrom(half)
    types = dtypes(made)
    nodes: list[Proto] = []
    widened: dict[str, str] = {}
    for node in made.graph.node:
        if node.op_type in {"Cast", "Constant"}:
            nodes.append(node)
            continue
        for index, name in enumerate(node.input):
            if _is_half(types.get(name, 0)):
                if name not in widened:
                    widened[name] = f"{name}__fp32"
                    nodes.append(helper.make_node("Cast", [name], [widened[name]], to=TensorProto.FLOAT))
                node.input[index] = widened[name]
        outputs = [(index, name) for index, name in enumerate(node.output) if _is_half(types.get(name, 0))]
        for index, name in outputs:
            node.output[index] = f"{name}__exact"
        nodes.append(node)
        for _, name in outputs:
            nodes.append(helper.make_node("Cast", [f"{name}__exact"], [name], to=types[name]))
    del made.graph.node[:], made.graph.value_info[:]
    made.graph.node.extend(nodes)
    return made


def dtypes(proto: Proto) -> dict[str, int]:
    """ONNX data type of every value of a graph.

    Raises:
        ModelError: they cannot be inferred: types do not fit together.
    """
    import onnx
    from onnx import shape_inference

    try:
        inferred = shape_inference.infer_shapes(proto, check_type=True, strict_mode=True).graph
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise ModelError(f"the converted model is not valid: {' '.join(str(error).split())[:300]}") from error
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    return found | {one.name: one.data_type for one in inferred.initializer}


def _is_half(dtype: int) -> bool:
    from onnx import TensorProto

    return dtype in {TensorProto.FLOAT16, TensorProto.BFLOAT16}


def _weights_as_inputs(proto: Proto) -> dict[str, Proto]:
    """Takes the external FP32 initializers out, and puts inputs in their place."""
    from onnx import TensorProto, helper

    graph = proto.graph
    weights = {
        one.name: one for one in graph.initializer if external.is_external(one) and one.data_type == TensorProto.FLOAT
    }
    others = [one for one in graph.initializer if one.name not in weights]
    del graph.initializer[:]
    graph.initializer.extend(others)
    graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, list(one.dims)) for name, one in weights.items()
    )
    return weights


def _weights_back(graph: Proto, weights: Mapping[str, Proto]) -> None:
    """The weights as initializers again: in FP16 under their names, in FP32 under those that :func:`_mend` gave."""
    from onnx import TensorProto

    inputs = [value for value in graph.input if value.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)
    taken = {name for node in graph.node for name in node.input}
    for name, weight in weights.items():
        exact = _exact(name)
        if exact in taken:
            one = graph.initializer.add()
            one.CopyFrom(weight)
            one.name = exact
        if name in taken:
            one = graph.initializer.add()
            one.CopyFrom(weight)
            one.data_type = TensorProto.FLOAT16


def _exact(weight: str) -> str:
    return f"{weight}.fp32"


def _mend(graph: Proto, weights: Collection[str], edges: Collection[str]) -> None:
    """See the docstring of the module."""
    from onnx import TensorProto

    casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}
    made: dict[str, str] = {}  # value that a Cast of the converter's gives → the one that is as good
    for name, node in casts.items():
        source = node.input[0]
        if node.attribute[0].i != TensorProto.FLOAT or not node.name.endswith("_cast_to_fp32_node"):
            continue
        if source in weights:
            made[name] = _exact(source)
        elif source in casts and casts[source].name.endswith("_cast_to_fp16_node"):
            made[name] = casts[source].input[0]
    seen: set[str] = set()
    nodes = []
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = made.get(name, name)
        if node.op_type == "Cast" and (node.output[0] in made or node.output[0] in seen):
            continue
        seen.update(node.output)
        nodes.append(node)
    taken = {name for node in nodes for name in node.input} | set(edges)
    kept = [node for node in nodes if node.op_type != "Cast" or node.output[0] in taken]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(kept)


def _as_bf16(proto: Proto) -> None:
    """Every FP16 becomes BF16: initializers, constants, casts."""
    from onnx import TensorProto, numpy_helper

    def changed(tensor: Proto) -> None:
        if tensor.data_type != TensorProto.FLOAT16:
            return
        if not external.is_external(tensor):
            import numpy as np

            values = rounded(numpy_helper.to_array(tensor).astype(np.float32), BF16)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        tensor.data_type = TensorProto.BFLOAT16

    for tensor in proto.graph.initializer:
        changed(tensor)
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                changed(attribute.t)
            elif attribute.name in {"to", "dtype"} and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.BFLOAT16


def _without_bf16(proto: Proto) -> list[str]:
    """Names of the nodes whose operator takes no BF16 in the model's opset."""
    from onnx import defs

    opsets = {one.domain: one.version for one in proto.opset_import}

    def takes(node: Proto) -> bool:
        schema = defs.get_schema(node.op_type, opsets[node.domain], node.domain)
        floating = [one for one in schema.type_constraints if "tensor(float)" in one.allowed_type_strs]
        return all("tensor(bfloat16)" in one.allowed_type_strs for one in floating)

    return [node.name for node in proto.graph.node if not takes(node)]
