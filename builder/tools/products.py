"""Matrix products with weights: which there are in a graph, and how well they come out in INT8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder.tools import external

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from builder.tools.opaque import Array

Proto = Any
"""An ``onnx.ModelProto``, or a message in it."""

STRENGTHS: Final = (0.0, 0.4, 0.5, 0.6, 0.7)
"""How strongly columns are made alike, as tried; see :func:`factors`."""

TINY: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix product with weights."""

    name: str  # of its node
    takes: str  # the value that is multiplied
    weight: str  # an initializer
    transposed: bool  # the initializer is [columns, rows]


def products(model: Proto) -> list[Product]:
    """The matrix products of a graph that have two-dimensional FP32 weights."""
    from onnx import TensorProto

    weights = {
        one.name: one for one in model.graph.initializer if len(one.dims) == 2 and one.data_type == TensorProto.FLOAT
    }
    turned = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "Transpose" and node.input[0] in weights
    }
    found = []
    for node in model.graph.node:
        if node.op_type != "MatMul":
            continue
        value, weight = node.input
        if weight in weights or weight in turned:
            found.append(Product(node.name, value, turned.get(weight, weight), weight in turned))
    return found


def weights(model: Proto, folder: Path, made: Collection[Product]) -> dict[str, Array]:
    """Name of node → FP32 [rows, columns], mapped."""
    stored = {one.name: one for one in model.graph.initializer}
    found = {}
    for one in made:
        values = external.values(stored[one.weight], folder)
        found[one.name] = values.T if one.transposed else values
    return found


def factors(rows: Array, weight: Array, strength: float) -> Array:
    """What columns of values are divided by, and the weights' rows multiplied by: FP32 [width], 1 on average.

    A column that is large in every row would take the resolution from all others. From SmoothQuant
    (https://arxiv.org/abs/2211.10438), which calls the strength alpha.

    Args:
        rows: FP32 [rows, width] of real samples.
        weight: FP32 [width, columns].
        strength: 0 leaves the columns as they are, 1 makes them alike.
    """
    import numpy as np

    if not strength:
        return np.ones(rows.shape[1], np.float32)
    largest = np.maximum(np.abs(rows).max(axis=0), TINY)
    made = largest**strength / np.maximum(np.abs(weight).max(axis=1), TINY) ** (1 - strength)
    return (made / np.exp(np.log(made).mean())).astype(np.float32)


def rounded(weight: Array) -> Array:
    """FP32 [rows, columns] as INT8 with a scale for each column holds it."""
    import numpy as np

    levels, scales = quantised(weight)
    return levels.astype(np.float32) * scales


def quantised(weight: Array) -> tuple[Array, Array]:
    """INT8 [rows, columns] and the scale of each column."""
    import numpy as np

    scales = np.maximum(np.abs(weight).max(axis=0) / 127, TINY).astype(np.float32)
    return np.clip(np.rint(weight / scales), -127, 127).astype(np.int8), scales


def error(rows: Array, weight: Array, rounded_rows: Array, rounded_weight: Array) -> float:
    """The mean square error of a product of rounded values and rounded weights."""
    import numpy as np

    return float(np.square(rounded_rows @ rounded_weight - rows @ weight).mean())


def value_error(rows: Array, rounded_rows: Array, weight: Array) -> float:
    """The part of it that rounded values have, as if no error knew of another; it takes no product.

    What matters of a value is how large the weights are that it meets.
    """
    import numpy as np

    return float(np.square(rows - rounded_rows).mean(axis=0) @ np.square(weight).sum(axis=1))
