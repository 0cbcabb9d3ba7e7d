"""Programs of ``torch.export`` that ``torch.onnx`` can convert as they are.

``torch.onnx`` traces every program a second time, to take its operators apart and to make mutations explicit: that is a
third of an export. A text model's graph mutates nothing, and nearly all of its operators have an ONNX function as they
are; the few that have none are renamed here. Where that is not enough, the caller goes the long way.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.tools.opaque import FxNode, TorchProgram

_SAME: Final[Mapping[str, str]] = {
    "aten::__and__.Tensor": "bitwise_and.Tensor",
    "aten::__or__.Tensor": "bitwise_or.Tensor",
    "aten::__xor__.Tensor": "bitwise_xor.Tensor",
    "aten::reshape": "view.default",
}
"""Operators → the ones that they would be taken apart to, and that have the ONNX functions."""

_CASTS: Final = ("aten::to.dtype", "aten::to.dtype_layout", "aten::to.device", "aten::to.other", "aten::type_as")
"""What may change a tensor's dtype; there is but one device and one layout."""

_ADDED: Final = frozenset({"aten::_to_copy", "aten::scalar_tensor"})
"""Operators that ``torch.onnx`` itself adds where an operator takes inputs of two dtypes."""


def is_plain(program: TorchProgram) -> bool:
    """Whether all that a program does is to call ``aten`` operators that change nothing."""
    nodes = program.graph.nodes
    kinds = {node.op for node in nodes}
    return kinds <= {"placeholder", "call_function", "output"} and all(
        _changes_nothing(node.target) for node in nodes if node.op == "call_function"
    )


def simplify(program: TorchProgram) -> None:
    """Renames operators without an ONNX function, in place."""
    for node in list(program.graph.nodes):
        _rename(program.graph, node)


@contextlib.contextmanager
def as_it_is(program: TorchProgram) -> Iterator[None]:
    """While the block runs, ``torch.onnx`` does not decompose the program, and knows the operators in it alone.

    To read what it knows of all 500 operators takes it as long as to convert a small model.
    """
    from onnxscript.function_libs.torch_lib import ops, registration  # noqa: F401 - ops fills the registry

    everything, used = registration.default_registry, {_name(node.target) for node in program.graph.nodes}
    used |= _ADDED
    program.run_decompositions = lambda *_: program
    registration.default_registry = _Some(everything, used)
    try:
        with _known_values():
            yield
    finally:
        registration.default_registry = everything
        del program.run_decompositions


@contextlib.contextmanager
def _known_values() -> Iterator[None]:
    """Lets nobody compute a node's fake value again: the trace has left it there.

    ``torch.onnx`` runs the whole program to find the operators that take inputs of two dtypes.
    """
    from torch.fx import Interpreter

    run_node = Interpreter.run_node

    def known(interpreter: Interpreter, node: FxNode) -> Any:  # noqa: ANN401 - a fake tensor, or a number
        return node.meta["val"] if "val" in node.meta else run_node(interpreter, node)

    Interpreter.run_node = known
    try:
        yield
    finally:
        Interpreter.run_node = run_node


class _Some:
    """Of a registry of ONNX functions, those of some ``aten`` operators, and all that are no ``aten`` operator's."""

    def __init__(self, registry: Any, names: set[str]) -> None:  # noqa: ANN401 - an onnxscript registry
        self._registry = registry
        self._names = names

    def items(self) -> Iterator[tuple[str, Any]]:
        for name, functions in self._registry.items():
            if name in self._names or not name.startswith("aten::"):
                yield name, functions


def _rename(graph: Any, node: FxNode) -> None:  # noqa: ANN401 - a torch.fx.Graph
    import torch

    name = _name(node.target)
    if name in _SAME:
        packet, overload = _SAME[name].split(".")
        node.target = getattr(getattr(torch.ops.aten, packet), overload)
    elif name in _CASTS:
        (value, *_), dtype = node.args, node.meta["val"].dtype
        if value.meta["val"].dtype == dtype:
            node.replace_all_uses_with(value)
            graph.erase_node(node)
        else:
            node.target, node.args, node.kwargs = torch.ops.aten._to_copy.default, (value,), {"dtype": dtype}


def _changes_nothing(target: Any) -> bool:  # noqa: ANN401 - whatever a node may call
    """Whether a function is an ``aten`` operator that changes nothing, or arithmetic on sizes."""
    import torch

    if isinstance(target, torch._ops.OpOverload):
        return target.namespace == "aten" and not target._schema.is_mutable
    return getattr(target, "__module__", "") in {"_operator", "math"}


def _name(target: Any) -> str:  # noqa: ANN401 - whatever a node may call
    """``aten::add.Tensor``; the default overload has no name of its own."""
    import torch

    return target.name().removesuffix(".default") if isinstance(target, torch._ops.OpOverload) else ""
