"""A graph that computes some nodes in two ways, and takes the one that it is told: one session tries them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.tools import onnx_proto

if TYPE_CHECKING:
    from collections.abc import Sequence

Proto = Any
"""An ``onnx.ModelProto``, or a message in it."""

INPUT: Final = "converted.switches"
"""Name of the input that tells: BOOL, for each node whether it is converted."""


def switched(exact: Proto, converted: Proto, names: Sequence[str]) -> Proto:
    """The converted graph, with the exact nodes beside it.

    Args:
        exact: the graph before.
        converted: the graph after; what the nodes give has kept its name.
        names: of nodes of the exact graph, in the order of the switches. They take what no node of ``names`` gives
            under another name, or weights, perhaps through one node (a Transpose).
    """
    import onnx
    from onnx.helper import make_node, make_tensor, make_tensor_value_info

    both = onnx.ModelProto()
    both.CopyFrom(converted)
    graph, nodes = both.graph, {node.name: node for node in exact.graph.node}
    givers = {output: node for node in graph.node for output in node.output}
    for index, name in enumerate(names):
        output = nodes[name].output[0]
        givers[output].output[list(givers[output].output).index(output)] = f"{output}.converted"
        alone = graph.node.add()
        alone.CopyFrom(nodes[name])
        alone.name, alone.output[0] = f"{name}.exact", f"{output}.exact"
        place = make_tensor("value", onnx.TensorProto.INT64, [], [index])
        taken = [f"{output}.switch", f"{output}.converted", f"{output}.exact"]
        graph.node.append(make_node("Constant", [], [f"{output}.place"], value=place))
        graph.node.append(make_node("Gather", [INPUT, f"{output}.place"], [f"{output}.switch"]))
        graph.node.append(make_node("Where", taken, [output]))
    _complete(graph, exact.graph)
    graph.input.append(make_tensor_value_info(INPUT, onnx.TensorProto.BOOL, [len(names)]))
    return onnx_proto.in_order(both)


def _complete(graph: Proto, exact: Proto) -> None:
    """Adds what the exact nodes take and the converted graph has no more."""
    known = {name for node in graph.node for name in node.output}
    known |= {value.name for value in (*graph.input, *graph.initializer)}
    givers = {output: node for node in exact.node for output in node.output}
    stored = {one.name: one for one in exact.initializer}
    missing = [name for node in graph.node for name in node.input if name and name not in known]
    while missing:
        name = missing.pop()
        if name in known:
            continue
        known.add(name)
        if name in stored:
            graph.initializer.add().CopyFrom(stored[name])
        elif name in givers:
            graph.node.append(givers[name])
            known.update(givers[name].output)
            missing += givers[name].input
