"""INT8 matrix products for onnxruntime on the CPU: each row of activations has a scale of its own.

The usual converter gives all rows of a batch one scale. A row with a large value then takes the resolution from all
others, and what a text is answered depends on which texts it shares a batch with. Here:

* activations: UINT8, a scale for each row found when it is computed; the zero point is fixed for each product, where
  the samples' rows need it (after GELU nearly all values are positive: a zero point in the middle wastes one bit);
* weights: INT8, symmetric, a scale for each column;
* columns of activations that are large in every row are divided by a factor, and the weights' rows multiplied by it
  (SmoothQuant, https://arxiv.org/abs/2211.10438): how strongly is tried on the samples.

In onnxruntime: ``QuantizeLinear`` with a scale for each row, ``MatMulIntegerToFloat``, and a multiplication.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from builder.tools import external
from builder.tools.onnx_proto import drop_unused
from builder.tools.products import STRENGTHS, TINY, Product, error, factors, quantised, rounded, weights

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from builder.tools.opaque import Array

Proto = Any
"""An ``onnx.ModelProto``, or a message in it."""

DATA_FILE: Final = "model.int8.data"

_ZERO_POINTS: Final = range(16, 241, 8)
_MICROSOFT: Final = "com.microsoft"


@dataclass(frozen=True, slots=True)
class Setting:
    """How a value is quantised before it is multiplied."""

    factors: Array  # FP32 [width]: what each column is divided by
    zero_point: int
    strength: float


def settings(values: Mapping[str, Array], multiplied: Mapping[str, list[Array]]) -> dict[str, Setting]:
    """For each value that is multiplied, the setting with which its products come closest to the exact ones.

    Args:
        values: FP32 [rows, width] of real samples, by name.
        multiplied: the weights, FP32 [width, columns], that each value is multiplied with.
    """
    return {name: _best(rows, multiplied[name]) for name, rows in values.items()}


def _best(rows: Array, multiplied: Iterable[Array]) -> Setting:
    import numpy as np

    weight = np.concatenate(list(multiplied), axis=1)

    def wrong(setting: Setting) -> float:
        divided, scaled = rows / setting.factors, weight * setting.factors[:, None]
        scales = _scales(divided.min(axis=1), divided.max(axis=1), setting.zero_point)[:, None]
        return error(divided, scaled, np.rint(divided / scales) * scales, rounded(scaled))

    return min((_setting(rows, weight, strength) for strength in STRENGTHS), key=wrong)


def _setting(rows: Array, weight: Array, strength: float) -> Setting:
    import numpy as np

    divisors = factors(rows, weight, strength)
    divided = rows / divisors
    loudness = np.maximum(np.sqrt(np.square(divided).mean(axis=1)), TINY)
    ends = divided.min(axis=1), divided.max(axis=1)

    def coarseness(zero_point: int) -> float:
        return float(np.square(_scales(*ends, zero_point) / loudness).mean())

    return Setting(divisors, min(_ZERO_POINTS, key=coarseness), strength)


def _scales(least: Array, largest: Array, zero_point: int) -> Array:
    """The step of each row that holds all its values."""
    import numpy as np

    scales = np.maximum(largest / (255 - zero_point), least / -zero_point)
    return np.maximum(scales, np.float32(TINY))


def quantise(
    model: Proto,
    folder: Path,
    made: Collection[Product],
    chosen: Mapping[str, Setting],
    out: Path,
) -> Proto:
    """A copy of a graph with some of its matrix products in INT8; values keep their names.

    Args:
        model: the graph in FP32.
        folder: where its weights lie.
        made: the products to quantise.
        chosen: by value that is multiplied; see :func:`settings`.
        out: folder that :data:`DATA_FILE` is written to.
    """
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(model)
    exact, by_name = weights(model, folder, made), {one.name: one for one in made}
    with (out / DATA_FILE).open("wb") as stream:
        writer = _Writer(result.graph, stream)
        nodes: list[Proto] = []
        for node in model.graph.node:
            if one := by_name.get(node.name):
                setting = chosen[one.takes]
                nodes += writer.rows(one.takes, setting)
                nodes += writer.product(one.takes, node, exact[one.name], setting)
            else:
                nodes.append(node)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    drop_unused(result.graph)
    if all(one.domain != _MICROSOFT for one in result.opset_import):
        result.opset_import.append(onnx.helper.make_opsetid(_MICROSOFT, 1))
    return result


class _Writer:
    """Adds the nodes and initializers of quantised products."""

    def __init__(self, graph: Proto, stream: BinaryIO) -> None:
        self._graph, self._stream = graph, stream
        self._done: set[str] = set()
        self._constants: set[str] = set()

    def rows(self, value: str, setting: Setting) -> Iterator[Proto]:
        """Quantises a value, once."""
        import numpy as np
        from onnx.helper import make_node

        if value in self._done:
            return
        self._done.add(value)
        width, zero = len(setting.factors), setting.zero_point
        name = f"int8.{value}"
        last, tiny = self._constant("int8.last", np.array([-1])), self._constant("int8.tiny", np.float32(TINY))
        divided = value
        if setting.strength:
            inverse = self._constant(f"{name}.inverse", np.float32(1) / setting.factors)
            divided = f"{name}.divided"
            yield make_node("Mul", [value, inverse], [divided])
        shape = self._constant(f"{name}.shape", np.array([-1, width]))
        point = self._constant(f"{name}.zero_point", np.uint8(zero))
        above = self._constant(f"{name}.above", np.float32(1 / (255 - zero)))
        below = self._constant(f"{name}.below", np.float32(-1 / zero))
        yield make_node("Reshape", [divided, shape], [f"{name}.rows"])
        yield make_node("ReduceMax", [f"{name}.rows", last], [f"{name}.max"], keepdims=1)
        yield make_node("ReduceMin", [f"{name}.rows", last], [f"{name}.min"], keepdims=1)
        yield make_node("Mul", [f"{name}.max", above], [f"{name}.up"])
        yield make_node("Mul", [f"{name}.min", below], [f"{name}.down"])
        yield make_node("Max", [f"{name}.up", f"{name}.down", tiny], [f"{name}.scale"])
        yield make_node("Squeeze", [f"{name}.scale", last], [f"{name}.scales"])
        yield make_node("Shape", [f"{name}.scales"], [f"{name}.count"])
        yield make_node("Expand", [point, f"{name}.count"], [f"{name}.zero_points"])
        yield make_node(
            "QuantizeLinear", [f"{name}.rows", f"{name}.scales", f"{name}.zero_points"], [f"{name}.levels"], axis=0
        )
        yield make_node("Shape", [value], [f"{name}.leading"], end=-1)

    def product(self, value: str, node: Proto, weight: Array, setting: Setting) -> Iterator[Proto]:
        """The product of a value that :meth:`rows` has quantised."""
        import numpy as np
        from onnx.helper import make_node

        levels, scales = quantised(weight * setting.factors[:, None])
        name, taken = f"int8.{node.name}", f"int8.{value}"
        self._weight(f"{name}.weight", levels)
        columns = self._constant(f"{name}.columns", scales)
        one, width = self._constant("int8.one", np.float32(1)), self._constant(f"{name}.width", np.array([len(scales)]))
        inputs = [f"{taken}.levels", f"{name}.weight", one, columns, f"{taken}.zero_point"]
        yield make_node("MatMulIntegerToFloat", inputs, [f"{name}.product"], node.name, domain=_MICROSOFT)
        yield make_node("Mul", [f"{name}.product", f"{taken}.scale"], [f"{name}.scaled"])
        yield make_node("Concat", [f"{taken}.leading", width], [f"{name}.shape"], axis=0)
        yield make_node("Reshape", [f"{name}.scaled", f"{name}.shape"], [node.output[0]])

    def _constant(self, name: str, value: Array) -> str:
        import numpy as np
        from onnx import numpy_helper

        if name not in self._constants:
            self._constants.add(name)
            self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _weight(self, name: str, levels: Array) -> None:
        from onnx import TensorProto

        tensor = self._graph.initializer.add()
        tensor.name, tensor.data_type = name, TensorProto.INT8
        tensor.dims.extend(levels.shape)
        external.point(tensor, DATA_FILE, self._stream.tell(), levels.nbytes)
        self._stream.write(levels.tobytes())
