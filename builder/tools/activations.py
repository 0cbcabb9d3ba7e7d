"""What goes through a graph when it answers real samples: how large it gets, and where a conversion does its damage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.tools.half import LARGEST_FP16, dtypes
from builder.tools.onnxruntime import Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from builder.tools.opaque import Array

    Inputs = Mapping[str, Array]

Proto = Any
"""An ``onnx.ModelProto``, or a message in it."""

HEADROOM: Final = 4.0
"""How much larger a value may get in service than it did with the samples."""

MASK: Final = -1e9
"""At or below this, a value says “not this token”: the most negative number of any precision says so as well."""

_ROWS: Final = 512

_SQUARED: Final = frozenset({"LayerNormalization", "ReduceL2", "RMSNormalization", "InstanceNormalization"})
"""Operators that square what they take before they add it up."""


def magnitudes(model: Proto, folder: Path, batches: Iterable[Inputs]) -> dict[str, float]:
    """The largest absolute value of each FP32 value that a node gives, masks left out.

    Args:
        model: the graph, an ``onnx.ModelProto``.
        folder: where its external data lies; a graph is written there.
        batches: what it is asked.
    """
    import onnx
    from onnx import TensorProto, helper

    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    names = _floating(model)
    constants = {"largest.mask": MASK, "largest.zero": 0.0}
    probed.graph.initializer.extend(helper.make_tensor(k, TensorProto.FLOAT, [], [v]) for k, v in constants.items())
    for name in names:
        made = [f"largest.{step}.{name}" for step in ("masked", "kept", "absolute", "of")]
        probed.graph.node.extend(
            [
                helper.make_node("LessOrEqual", [name, "largest.mask"], [made[0]]),
                helper.make_node("Where", [made[0], "largest.zero", name], [made[1]]),
                helper.make_node("Abs", [made[1]], [made[2]]),
                helper.make_node("ReduceMax", [made[2]], [made[3]], keepdims=0),
            ]
        )
    found = dict.fromkeys(names, 0.0)
    for answer in _run(probed, folder, [f"largest.of.{name}" for name in names], batches):
        for name in names:
            found[name] = max(found[name], float(answer[f"largest.of.{name}"]))
    return found


def rows(model: Proto, folder: Path, names: Sequence[str], batches: Sequence[Inputs]) -> dict[str, Array]:
    """Values of a graph as rows, FP32 [rows, width]: about :data:`_ROWS` of each, as many of every batch."""
    import numpy as np

    found: dict[str, list[Array]] = {name: [] for name in names}
    each = max(1, round(_ROWS / len(batches)))
    for answer in _run(model, folder, names, batches):
        for name in names:
            values = answer[name].reshape(-1, answer[name].shape[-1])
            found[name].append(values[np.linspace(0, len(values) - 1, min(each, len(values))).round().astype(int)])
    return {name: np.concatenate(values) for name, values in found.items()}


def overflowing(model: Proto, largest: Mapping[str, float]) -> list[str]:
    """Names of the nodes that take or give, or square on the way, what FP16 does not hold."""
    import math

    limit = LARGEST_FP16 / HEADROOM

    def too_large(node: Proto) -> bool:
        allowed = math.sqrt(LARGEST_FP16) / math.sqrt(HEADROOM) if node.op_type in _SQUARED else limit
        return any(largest.get(name, 0.0) > allowed for name in (*node.input, *node.output))

    return [node.name for node in model.graph.node if too_large(node)]


def damage(exact: Proto, converted: Proto, folder: Path, batches: Sequence[Inputs]) -> dict[str, float]:
    """How much error each node adds: that of its worst output less that of its worst input; the worst node first.

    Args:
        exact: the graph in FP32.
        converted: the same one converted, so that onnxruntime can run it; values keep their names.
        folder: where the external data of both lies; graphs are written there.
        batches: what they are asked.

    Returns:
        Node name → relative error (of the root of the mean of squares), on average over the batches.
    """
    import numpy as np

    named = dtypes(converted)
    names = [name for name in _floating(exact) if name in named]
    errors: dict[str, list[float]] = {name: [] for name in names}
    pairs = zip(_run(exact, folder, names, batches), _run(converted, folder, names, batches), strict=True)
    for truth, answer in pairs:
        for name in names:
            errors[name].append(_relative(truth[name], answer[name]))
    mean = {name: float(np.mean(values)) for name, values in errors.items()}
    added = {
        node.name: max(mean.get(name, 0.0) for name in node.output)
        - max([0.0, *(mean.get(n, 0.0) for n in node.input)])
        for node in exact.graph.node
    }
    return dict(sorted(((name, value) for name, value in added.items() if value > 0), key=lambda one: -one[1]))


def modules(model: Proto) -> dict[str, str]:
    """The module of the source model that each node comes from, as far as weights tell: name of node → module.

    A node without weights is told by the last module before it.
    """
    weights = {one.name for one in model.graph.initializer if "." in one.name}
    latest: dict[str, tuple[int, str]] = {}  # value → the module that it comes from, and when that was met
    found: dict[str, str] = {}
    for index, node in enumerate(model.graph.node):
        own = [(index, name.rpartition(".")[0]) for name in node.input if name in weights]
        made = max(own or [latest[name] for name in node.input if name in latest], default=None)
        found[node.name] = made[1] if made else ""
        if made:
            latest |= dict.fromkeys(node.output, made)
    return found


def _floating(model: Proto) -> list[str]:
    """Names of the FP32 values that nodes give, constants left out."""
    from onnx import TensorProto

    types = dtypes(model)
    nodes = (node for node in model.graph.node if node.op_type != "Constant")
    return [name for node in nodes for name in node.output if name and types.get(name) == TensorProto.FLOAT]


def _run(model: Proto, folder: Path, names: Iterable[str], batches: Iterable[Inputs]) -> Iterator[dict[str, Array]]:
    """Values of a graph, those of half precision as FP32, batch by batch."""
    import uuid

    import onnx
    from onnx import TensorProto, helper

    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    outputs = {f"probed.{name}": name for name in names}
    for output, name in outputs.items():
        probed.graph.node.append(helper.make_node("Cast", [name], [output], to=TensorProto.FLOAT))
        probed.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
    path = folder / f"{uuid.uuid4().hex}.onnx"
    onnx.save_model(probed, path)
    session = Session(path)
    path.unlink()
    for inputs in batches:
        answer = session.run(inputs, list(outputs))
        yield {name: answer[output] for output, name in outputs.items()}


def _relative(truth: Array, answer: Array) -> float:
    import numpy as np

    if not np.isfinite(answer).all():
        return float("inf")
    seen = truth > MASK
    scale = float(np.sqrt(np.square(truth[seen], dtype=np.float64).mean())) if seen.any() else 0.0
    difference = float(np.sqrt(np.square((answer - truth)[seen], dtype=np.float64).mean())) if seen.any() else 0.0
    return difference / scale if scale else difference
