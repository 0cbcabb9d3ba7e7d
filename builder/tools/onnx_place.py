"""Where something is in an ONNX graph, in the words of the model that it was traced from.

Nodes have numbers for names (``node_MatMul_91``); parameters keep those of the source's modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

_MOST_VALUES: Final = 1000  # looked at backwards from a node until a parameter is met

_FORMS: Final = frozenset({"Transpose", "Cast", "Reshape", "Unsqueeze", "Squeeze", "Identity", "DequantizeLinear"})
"""Operators after which a parameter is still the same parameter."""


def module_of(path: Path, name: str) -> str:
    """The module of the source that a node belongs to or follows: that of the nearest parameter it depends on.

    Args:
        path: the ONNX file; external data is not read.
        name: of the node, or of one of its outputs.

    Returns:
        ``encoder.layer.0.attention.self.query``; empty where no such node is there, or no parameter before it.
    """
    graph = _graph(path)
    makers = {output: node for node in graph.node for output in node.output}
    parameters = {one.name for one in graph.initializer if "." in one.name}
    start = next((node for node in graph.node if name and name in (node.name, *node.output)), None)
    waiting, seen = [start] if start is not None else [], set[str]()
    while waiting and len(seen) < _MOST_VALUES:
        node = waiting.pop(0)
        for value in node.input:
            if found := _parameter(value, makers, parameters):
                return found.rpartition(".")[0].removeprefix("model.")
        new = [value for value in node.input if value in makers and value not in seen]
        seen.update(new)
        waiting += [makers[value] for value in new]
    return ""


def _parameter(value: str, makers: Mapping[str, Any], parameters: Collection[str]) -> str:
    """The parameter that a value is, but for its form; empty: it is none."""
    while value in makers and makers[value].op_type in _FORMS:
        value = makers[value].input[0]
    return value if value in parameters else ""


def _graph(path: Path) -> Any:  # noqa: ANN401 - onnx.GraphProto
    import onnx

    return onnx.load(path, load_external_data=False).graph
