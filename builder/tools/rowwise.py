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

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from builder.tools.opaque import Array

Proto = Any
"""An ``onnx.ModelProto``, or a message in it."""

DATA_FILE: Final = "model.int8.data"

SWITCHES: Final = "int8.switches"

_STRENGTHS: Final = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7)
_ZERO_POINTS: Final = range(16, 241, 8)
_TINY: Final = 1e-9
_MICROSOFT: Final = "com.microsoft"


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix product with weights."""

    name: str  # of its node
    takes: str  # the value that is multiplied
    weight: str  # an initializer
    transposed: bool  # the initializer is [columns, rows]


@dataclass(frozen=True, slots=True)
class Setting:
    """How a value is quantised before it is multiplied."""

    factors: Array  # FP32 [width]: what each column is divided by
    zero_point: int
    strength: float


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
    exact = rows @ weight

    def error(setting: Setting) -> float:
        return float(np.square(_imitated(rows, weight, setting) - exact).mean())

    tried = [_setting(rows, weight, strength) for strength in _STRENGTHS]
    return min(tried, key=error)


def _setting(rows: Array, weight: Array, strength: float) -> Setting:
    import numpy as np

    factors = np.ones(rows.shape[1], np.float32)
    if strength:
        largest = np.maximum(np.abs(rows).max(axis=0), _TINY)
        factors = largest**strength / np.maximum(np.abs(weight).max(axis=1), _TINY) ** (1 - strength)
        factors = (factors / np.exp(np.log(factors).mean())).astype(np.float32)
    divided = rows / factors
    loudness = np.maximum(np.sqrt(np.square(divided).mean(axis=1)), _TINY)
    ends = divided.min(axis=1), divided.max(axis=1)

    def coarseness(zero_point: int) -> float:
        return float(np.square(_scales(*ends, zero_point) / loudness).mean())

    return Setting(factors, min(_ZERO_POINTS, key=coarseness), strength)


def _scales(least: Array, largest: Array, zero_point: int) -> Array:
    """The step of each row that holds all its values."""
    import numpy as np

    scales = np.maximum(largest / (255 - zero_point), least / -zero_point)
    return np.maximum(scales, np.float32(_TINY))


def _imitated(rows: Array, weight: Array, setting: Setting) -> Array:
    """What the quantised product will be."""
    import numpy as np

    divided = rows / setting.factors
    scales = _scales(divided.min(axis=1), divided.max(axis=1), setting.zero_point)[:, None]
    levels = np.clip(np.rint(divided / scales), -setting.zero_point, 255 - setting.zero_point)
    quantised, columns = _quantised(weight * setting.factors[:, None])
    return (levels @ quantised.astype(np.float32)) * columns * scales


def _quantised(weight: Array) -> tuple[Array, Array]:
    """INT8 [rows, columns] and the scale of each column."""
    import numpy as np

    scales = np.maximum(np.abs(weight).max(axis=0) / 127, _TINY).astype(np.float32)
    return np.clip(np.rint(weight / scales), -127, 127).astype(np.int8), scales


def quantise(
    model: Proto,
    folder: Path,
    made: Collection[Product],
    chosen: Mapping[str, Setting],
    out: Path,
    *,
    switched: bool = False,
) -> Proto:
    """A copy of a graph with some of its matrix products in INT8; values keep their names.

    Args:
        model: the graph in FP32.
        folder: where its weights lie.
        made: the products to quantise.
        chosen: by value that is multiplied; see :func:`settings`.
        out: folder that :data:`DATA_FILE` is written to.
        switched: the graph computes both, and takes the one that its input :data:`SWITCHES` says: BOOL, for each of
            ``made`` whether it is INT8.
    """
    import onnx

    quantised = onnx.ModelProto()
    quantised.CopyFrom(model)
    exact, by_name = weights(model, folder, made), {one.name: one for one in made}
    with (out / DATA_FILE).open("wb") as stream:
        writer = _Writer(quantised.graph, stream)
        nodes: list[Proto] = []
        for node in model.graph.node:
            if one := by_name.get(node.name):
                setting = chosen[one.takes]
                nodes += writer.rows(one.takes, setting)
                nodes += writer.product(one.takes, node, exact[one.name], setting)
                if switched:
                    nodes += _switch(nodes, node, list(by_name).index(node.name))
            else:
                nodes.append(node)
    del quantised.graph.node[:]
    quantised.graph.node.extend(_used(nodes, [value.name for value in quantised.graph.output]))
    _drop_unused(quantised.graph)
    if all(one.domain != _MICROSOFT for one in quantised.opset_import):
        quantised.opset_import.append(onnx.helper.make_opsetid(_MICROSOFT, 1))
    if switched:
        kind = onnx.TensorProto.BOOL
        quantised.graph.input.append(onnx.helper.make_tensor_value_info(SWITCHES, kind, [len(made)]))
    return quantised


def _switch(nodes: list[Proto], node: Proto, index: int) -> Iterator[Proto]:
    """Both products under other names, and the one that is asked for under the name of the first."""
    import onnx
    from onnx.helper import make_node, make_tensor

    name = node.output[0]
    exact = onnx.NodeProto()
    exact.CopyFrom(node)
    exact.name = f"{node.name}.exact"
    exact.output[0], nodes[-1].output[0] = f"{name}.exact", f"{name}.int8"
    place = make_tensor("value", onnx.TensorProto.INT64, [], [index])
    yield exact
    yield make_node("Constant", [], [f"{name}.place"], value=place)
    yield make_node("Gather", [SWITCHES, f"{name}.place"], [f"{name}.switch"])
    yield make_node("Where", [f"{name}.switch", f"{name}.int8", f"{name}.exact"], [name])


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
        last, tiny = self._constant("int8.last", np.array([-1])), self._constant("int8.tiny", np.float32(_TINY))
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

        levels, scales = _quantised(weight * setting.factors[:, None])
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


def _used(nodes: Collection[Proto], outputs: Iterable[str]) -> list[Proto]:
    """The nodes that some output needs, in their order."""
    needed, kept = set(outputs), []
    for node in reversed(list(nodes)):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]


def _drop_unused(graph: Proto) -> None:
    taken = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [one for one in graph.initializer if one.name in taken]
    del graph.initializer[:]
    graph.initializer.extend(kept)
