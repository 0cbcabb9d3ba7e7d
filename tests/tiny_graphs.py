"""Tiny ONNX models and model repositories for tests that serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Shape = list[int | str]
ROWS: Shape = ["batch", "length"]  # both axes dynamic


def onnx_model(
    inputs: Mapping[str, tuple[str, Shape]],
    outputs: Mapping[str, tuple[str, Shape]],
    nodes: Sequence[tuple[str, list[str], list[str], dict[str, Any]]],
    constants: Mapping[str, Any] | None = None,
) -> bytes:
    """A serialized model: tensors as name → (ONNX type name, shape), nodes as (op, inputs, outputs, attributes)."""
    from onnx import TensorProto, helper, numpy_helper

    def values(tensors: Mapping[str, tuple[str, Shape]]) -> list[Any]:
        return [
            helper.make_tensor_value_info(name, TensorProto.DataType.Value(kind), shape)
            for name, (kind, shape) in tensors.items()
        ]

    graph = helper.make_graph(
        [helper.make_node(op, takes, gives, **attributes) for op, takes, gives, attributes in nodes],
        "tiny",
        values(inputs),
        values(outputs),
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def add_model() -> bytes:
    """``C = A + B``, FP32 of two dynamic axes: unequal lengths make the run fail."""
    tensors = dict.fromkeys("AB", ("FLOAT", ROWS))
    return onnx_model(tensors, {"C": ("FLOAT", ROWS)}, [("Add", ["A", "B"], ["C"], {})])


def config(
    backend: str, inputs: Mapping[str, str], outputs: Mapping[str, str], *, max_batch_size: int = 8, more: str = ""
) -> str:
    """``config.pbtxt`` with tensors as name → ``FP32 -1``."""

    def tensors(kind: str, stated: Mapping[str, str]) -> str:
        lines = []
        for name, what in stated.items():
            kind_name, *dims = what.split()
            lines.append(f'{kind} {{ name: "{name}" data_type: TYPE_{kind_name} dims: [{", ".join(dims)}] }}\n')
        return "".join(lines)

    head = f'backend: "{backend}"\nmax_batch_size: {max_batch_size}\n'
    return head + tensors("input", inputs) + tensors("output", outputs) + more


def put(repository: Path, name: str, config_text: str, *, version: str = "1", **files: str | bytes) -> Path:
    """Writes a model into a repository; ``files`` are named by their stem: ``model_py``, ``model_onnx``."""
    folder = repository / name / version
    folder.mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(config_text)
    for stem, content in files.items():
        path = folder / stem.replace("_", ".")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder
