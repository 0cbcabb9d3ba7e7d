"""INT8 and FP8 matrix products for TensorRT: ``QuantizeLinear`` and ``DequantizeLinear`` around what is multiplied.

TensorRT takes one symmetric scale for all of a value, known beforehand. onnxruntime's quantiser writes the nodes; it is
told the scales, because its own calibration looks at values and not at products: here a scale is the one with which
the products of the samples come out best, large values cut off where that helps, and columns made alike before
(SmoothQuant, as in :mod:`builder.tools.products`).

FP8 (E4M3: 3 bits of mantissa, from 2^-9 to 448) rounds each value for itself: no scale rounds better than another, as
long as all values are within. So scales are powers of two, which are exact in FP16, and columns stay as they are.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder.errors import ModelError
from builder.tools import external, onnx_proto
from builder.tools.products import STRENGTHS, Product, error, factors, rounded, value_error, weights

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from builder.tools.opaque import Array

Proto = Any
"""An ``onnx.ModelProto``, or a message in it."""

INT8, FP8 = "int8", "fp8"

LARGEST_FP8: Final = 448.0

LEAST_FP8_OPSET: Final = 19

_HEADROOM: Final = 2.0
"""FP8 holds values that are larger than those of the samples by this; it costs nothing but the smallest numbers."""

_LEAST_SCALE: Final = 2.0**-24
"""The smallest number above 0 of FP16, in which scales are stored."""

LARGEST_MODEL_BYTES: Final = 1_900_000_000
"""onnxruntime's quantiser takes a model with its weights in one message, which may have 2 GiB."""

_CUTS: Final = (1.0, 0.8, 0.6, 0.45, 0.3, 0.2, 0.13, 0.08, 0.05)


@dataclass(frozen=True, slots=True)
class Setting:
    """How a value is quantised before it is multiplied."""

    factors: Array  # FP32 [width]: what each column is divided by before
    scale: float  # of one step
    strength: float  # of the factors, 0 to 1
    cut: float  # the largest value that is held, as a share of the largest of the samples


def settings(values: Mapping[str, Array], multiplied: Mapping[str, list[Array]]) -> dict[str, Setting]:
    """For each value that is multiplied, the setting with which its products come closest to the exact ones.

    Args:
        values: FP32 [rows, width] of real samples, by name.
        multiplied: the weights, FP32 [width, columns], that each value is multiplied with.
    """
    return {name: _best(rows, multiplied[name]) for name, rows in values.items()}


def fp8_settings(values: Mapping[str, Array]) -> dict[str, Setting]:
    """For each value that is multiplied, the scale that keeps it within FP8's numbers, with headroom.

    Args:
        values: FP32 [rows, width] of real samples, by name.
    """
    import numpy as np

    def one(rows: Array) -> Setting:
        largest = float(np.abs(rows).max())
        scale = _fp8_scale(largest * _HEADROOM)
        cut = scale * LARGEST_FP8 / (largest or 1.0)
        return Setting(np.ones(rows.shape[1], np.float32), scale, 0.0, cut)

    return {name: one(rows) for name, rows in values.items()}


def _fp8_scale(largest: float) -> float:
    """The power of two by which FP8 holds values up to ``largest``."""
    return max(_LEAST_SCALE, 2.0 ** math.ceil(math.log2(largest / LARGEST_FP8))) if largest else 1.0


def _best(rows: Array, multiplied: Iterable[Array]) -> Setting:
    import numpy as np

    weight = np.concatenate(list(multiplied), axis=1)

    def wrong(setting: Setting) -> float:
        divided, scaled = rows / setting.factors, weight * setting.factors[:, None]
        return error(divided, scaled, _rounded(divided, setting.scale), rounded(scaled))

    return min((_setting(rows, weight, strength) for strength in STRENGTHS), key=wrong)


def _setting(rows: Array, weight: Array, strength: float) -> Setting:
    import numpy as np

    divisors = factors(rows, weight, strength)
    divided, scaled = rows / divisors, weight * divisors[:, None]
    largest = float(np.abs(divided).max()) or 1.0

    def wrong(cut: float) -> float:
        return value_error(divided, _rounded(divided, largest * cut / 127), scaled)

    cut = min(_CUTS, key=wrong)
    return Setting(divisors, largest * cut / 127, strength, cut)


def _rounded(values: Array, scale: float) -> Array:
    import numpy as np

    return np.clip(np.rint(values / scale), -127, 127) * np.float32(scale)


def quantise(
    model: Proto,
    folder: Path,
    made: Collection[Product],
    chosen: Mapping[str, Setting],
    batch: Mapping[str, Array],
    room: Path,
    precision: str = INT8,
) -> Proto:
    """A copy of a graph, weights inside, with Q/DQ around the products ``made``.

    Args:
        model: the graph in FP32.
        folder: where its weights lie.
        made: the products to quantise.
        chosen: by value that is multiplied; see :func:`settings` and :func:`fp8_settings`.
        batch: inputs that the model can be run with.
        room: a folder for files in between.
        precision: int8, fp8.

    Raises:
        ModelError: the model is too large for onnxruntime's quantiser, or of an opset without FP8.
    """
    import onnx

    _check_opset(model, precision)
    smooth = _smoothed(model, folder, made, chosen)
    if smooth.ByteSize() > LARGEST_MODEL_BYTES:
        raise ModelError(
            f"{precision}: the model has {smooth.ByteSize() / 1e9:.1f} GB; onnxruntime's quantiser takes 1.9 GB",
            mend="take fp16",
        )
    scales = {f"{one.takes}.divided": _override(chosen[one.takes].scale, precision) for one in made}
    if precision == FP8:
        scales |= {f"{one.name}.weight": _fp8_weight(values) for one, values in _weights(model, folder, made)}
    before, after = room / "smooth.onnx", room / "qdq.onnx"
    onnx_proto.save(smooth, before)
    _run_quantiser(before, after, [one.name for one in made], batch, scales, per_channel=precision == INT8)
    quantised = onnx.load(after)
    for path in (before, after):
        path.unlink()
    return quantised


def _run_quantiser(
    before: Path,
    after: Path,
    nodes: Sequence[str],
    batch: Mapping[str, Array],
    scales: Mapping[str, list[dict[str, Any]]],
    *,
    per_channel: bool,
) -> None:
    """Runs the quantiser of onnxruntime with the scales that it is told."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Once(CalibrationDataReader):
        """What onnxruntime insists on: it calibrates, and then takes the scales that it is told."""

        left = iter([batch])

        def get_next(self) -> Mapping[str, Array] | None:
            return next(self.left, None)

    logging.getLogger().addFilter(_no_advice)
    try:
        quantize_static(
            before,
            after,
            Once(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=list(nodes),
            per_channel=per_channel,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
                "TensorQuantOverrides": dict(scales),
            },
        )
    finally:
        logging.getLogger().removeFilter(_no_advice)


def as_json(chosen: Mapping[str, Setting]) -> dict[str, Any]:
    """What was calibrated, for a file: value → scale, strength, cut."""
    return {
        name: {"scale": float(one.scale), "strength": one.strength, "cut": one.cut}
        for name, one in sorted(chosen.items())
    }


def _check_opset(model: Proto, precision: str) -> None:
    opset = next(one.version for one in model.opset_import if one.domain in {"", "ai.onnx"})
    if precision == FP8 and opset < LEAST_FP8_OPSET:
        raise ModelError(
            f"fp8: the model is of ONNX opset {opset}; FP8 begins at {LEAST_FP8_OPSET}",
            mend="export the model anew from its weights, or take int8 or fp16",
        )


def _override(scale: float, precision: str) -> list[dict[str, Any]]:
    """What onnxruntime's quantiser is told of a value, or of a weight."""
    import ml_dtypes
    import numpy as np
    from onnxruntime.quantization import QuantType

    told: dict[str, Any] = {"scale": np.array(scale, np.float32), "zero_point": np.array(0, np.int8)}
    if precision == FP8:
        told |= {"zero_point": np.array(0, ml_dtypes.float8_e4m3fn), "quant_type": QuantType.QFLOAT8E4M3FN}
    return [told]


def _fp8_weight(values: Array) -> list[dict[str, Any]]:
    import numpy as np

    return _override(_fp8_scale(float(np.abs(values).max())), FP8)


def _weights(model: Proto, folder: Path, made: Collection[Product]) -> list[tuple[Product, Array]]:
    found = weights(model, folder, made)
    return [(one, found[one.name]) for one in made]


def _no_advice(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING  # “consider to run pre-processing before quantization”


def _smoothed(model: Proto, folder: Path, made: Collection[Product], chosen: Mapping[str, Setting]) -> Proto:
    """The same computation with what is multiplied divided by its factors, and all weights inside the message."""
    import numpy as np
    import onnx
    from onnx import numpy_helper
    from onnx.helper import make_node

    smooth = onnx.ModelProto()
    smooth.CopyFrom(model)
    graph, by_name, exact = smooth.graph, {one.name: one for one in made}, weights(model, folder, made)
    del graph.node[:], graph.initializer[:]
    divided: set[str] = set()
    for node in model.graph.node:
        if one := by_name.get(node.name):
            divisors, name = chosen[one.takes].factors, f"{one.takes}.divided"
            if name not in divided:
                divided.add(name)
                graph.initializer.append(numpy_helper.from_array(np.float32(1) / divisors, f"{one.takes}.inverse"))
                graph.node.append(make_node("Mul", [one.takes, f"{one.takes}.inverse"], [name], name))
            weight = np.ascontiguousarray(exact[one.name] * divisors[:, None])
            graph.initializer.append(numpy_helper.from_array(weight, f"{one.name}.weight"))
            graph.node.append(make_node("MatMul", [name, f"{one.name}.weight"], list(node.output), node.name))
        else:
            graph.node.append(node)
    taken = {name for node in graph.node for name in node.input}
    for tensor in model.graph.initializer:
        if tensor.name in taken:
            values = np.array(external.values(tensor, folder))
            graph.initializer.append(numpy_helper.from_array(values, tensor.name))
    onnx_proto.drop_unused(graph)
    return smooth
