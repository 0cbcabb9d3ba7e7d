"""The steps behind a transformer, computed with numpy for the reference: on purpose not the code that is traced."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from builder.errors import InternalError
from builder.export.model_files import weight_files
from builder.tools.heads import Classify, Dense, LayerNorm, Normalize, Pooling, Score, Step, Truncate
from builder.tools.safetensors_header import read_header
from builder.tools.safetensors_values import as_float32, values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from builder.artifacts import Tree
    from builder.tools.opaque import Array

Weights = dict[str, "Array"]
"""Name in a step's file → values, FP32."""


def step_weights(tree: Tree, steps: Sequence[Step]) -> dict[int, Weights]:
    """The weights of the steps that have some, by the step's index."""
    found: dict[int, Weights] = {}
    for index, step in enumerate(steps):
        if isinstance(step, Dense | LayerNorm):
            (file,) = weight_files(tree, step.folder)
            path = tree[file].path
            found[index] = {name: as_float32(values(path, at), at.dtype) for name, at in read_header(path).items()}
    return found


def apply(
    steps: Sequence[Step], weights: Mapping[int, Weights], values: tuple[Array, ...], mask: Array | None
) -> tuple[Array, ...]:
    """The outputs of the steps, in order; without a step, the model's own.

    Args:
        steps: what follows the model.
        weights: what :func:`step_weights` returned.
        values: FP32, the last hidden state [batch, sequence, width] or the logits [batch, labels], or several where
            there is no step.
        mask: INT64 [batch, sequence]; None where the model takes no tokens: then no step may pool.
    """
    outputs = values
    for index, step in enumerate(steps):
        outputs = _apply(step, weights.get(index, {}), outputs[0], mask)
    return outputs


def _apply(step: Step, weights: Weights, value: Array, mask: Array | None) -> tuple[Array, ...]:
    import numpy as np

    match step:
        case Pooling(modes) if mask is not None:
            return (np.concatenate([_pool(mode, value, mask) for mode in modes], axis=-1),)
        case Dense():
            return (_dense(step, weights, value),)
        case LayerNorm():
            centred = value - value.mean(axis=-1, keepdims=True)
            deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(1e-5))
            return (centred / deviation * weights["norm.weight"] + weights["norm.bias"],)
        case Normalize():
            return (value / np.maximum(np.linalg.norm(value, axis=-1, keepdims=True), np.float32(1e-12)),)
        case Truncate(width):
            return (value[:, :width],)
        case Classify(activation):
            return _classify(value, activation)
        case Score(activation):
            return value, _activate(activation, value)
    raise InternalError(f"no numpy rule for {step!r}")  # pragma: no cover


def _pool(mode: str, tokens: Array, mask: Array) -> Array:
    import numpy as np

    rows = [vectors[attended.astype(bool)] for vectors, attended in zip(tokens, mask, strict=True)]
    rules: dict[str, Callable[[Array], Array]] = {
        "cls": lambda row: row[0],
        "lasttoken": lambda row: row[-1],
        "max": lambda row: row.max(axis=0),
        "mean": lambda row: row.sum(axis=0) / np.float32(len(row)),
        "mean_sqrt_len_tokens": lambda row: row.sum(axis=0) / np.sqrt(np.float32(len(row))),
        "weightedmean": lambda row: np.average(row, axis=0, weights=np.arange(1, len(row) + 1)).astype(np.float32),
    }
    return np.stack([rules[mode](row) for row in rows])


def _dense(step: Dense, weights: Weights, value: Array) -> Array:
    projected = value @ weights["linear.weight"].T
    if step.bias:
        projected = projected + weights["linear.bias"]
    result = _activate(step.activation, projected)
    if not step.residual:
        return result
    return result + (value @ weights["residual.weight"].T if "residual.weight" in weights else value)


def _activate(name: str, value: Array) -> Array:
    import numpy as np

    erf = np.frompyfunc(math.erf, 1, 1)
    rules: dict[str, Callable[[Array], Array]] = {
        "Identity": lambda x: x,
        "Tanh": np.tanh,
        "ReLU": lambda x: np.maximum(x, 0),
        "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "SiLU": lambda x: x / (1 + np.exp(-x)),
        "GELU": lambda x: x * (1 + erf(x / math.sqrt(2)).astype(np.float32)) / 2,
    }
    return rules[name](value).astype(np.float32)


def _classify(logits: Array, activation: str) -> tuple[Array, ...]:
    import numpy as np

    if activation == "softmax":
        exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return logits, exponents / exponents.sum(axis=-1, keepdims=True)
    return (logits, 1 / (1 + np.exp(-logits))) if activation == "sigmoid" else (logits,)
