"""ONNX files as protobuf messages: for tools of ``onnx`` and ``onnxruntime``, which take those."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.tools import external

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Proto = Any
"""An ``onnx.ModelProto``, or a message in it."""


def load(path: Path) -> Proto:
    """The graph in a file; external data is not read. Nodes without a name get one.

    Converters and measurements name nodes.
    """
    import onnx

    model = onnx.load(path, load_external_data=False)
    taken = {node.name for node in model.graph.node}
    for index, node in enumerate(model.graph.node):
        name = f"{node.op_type}_{index}"
        node.name = node.name or (f"{name}.unnamed" if name in taken else name)
    return model


def save(model: Proto, path: Path) -> None:
    """Writes a graph; external data stays where it is."""
    import onnx

    onnx.save_model(model, path)


def data_files(model: Proto) -> set[str]:
    """Names of the files beside the model that hold its external data."""
    return {external.location(one) for one in model.graph.initializer if external.is_external(one)}


_USED: Final = 0.9
"""Least share of a data file's bytes that a model uses, or what it uses is copied: an archive ships whole files."""


def gather(model: Proto, folder: Path, name: str, shared: Iterable[str]) -> None:
    """Copies what a model uses of data files that it leaves largely unused, and points it there.

    Args:
        model: the graph, changed in place.
        folder: the model's; the copy is written there.
        name: of the file to write.
        shared: names of the data files that this is about.
    """
    used: dict[str, list[Proto]] = {one: [] for one in shared}
    for tensor in filter(external.is_external, model.graph.initializer):
        if (place := external.location(tensor)) in used:
            used[place].append(tensor)
    sparse = [
        tensor
        for place, tensors in used.items()
        if sum(external.length(one) for one in tensors) < _USED * (folder / place).stat().st_size
        for tensor in tensors
    ]
    if not sparse:
        return
    with (folder / name).open("wb") as stream:
        for tensor in sparse:
            values, offset = external.values(tensor, folder), stream.tell()
            stream.write(memoryview(values).cast("B"))
            external.point(tensor, name, offset, values.nbytes)


def in_order(model: Proto) -> Proto:
    """A graph whose nodes stand in an order in which they can run."""
    import onnx_ir as ir

    made = ir.serde.deserialize_model(model)
    made.graph.sort()
    return ir.serde.serialize_model(made)


_INSIDE: Final = 1024
"""Bytes up to which a tensor stays in the model's own file."""


def externalise(model: Proto, folder: Path, name: str) -> None:
    """Moves the large tensors that lie inside a model into the file ``name`` beside it."""
    from onnx import numpy_helper

    inside = [one for one in model.graph.initializer if not external.is_external(one)]
    arrays = [(one, numpy_helper.to_array(one)) for one in inside]
    large = [(one, array) for one, array in arrays if array.nbytes > _INSIDE]
    if not large:
        return
    with (folder / name).open("wb") as stream:
        for one, array in large:
            offset = stream.tell()
            stream.write(array.tobytes())
            external.point(one, name, offset, array.nbytes)


def drop_unused(graph: Proto) -> None:
    """Takes out of a graph the nodes and initializers that no output needs."""
    needed = {value.name for value in graph.output}
    nodes = []
    for node in reversed(list(graph.node)):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes[::-1])
    taken = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [one for one in graph.initializer if one.name in taken]
    del graph.initializer[:]
    graph.initializer.extend(kept)
