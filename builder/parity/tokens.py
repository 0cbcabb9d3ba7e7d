"""Answers with an axis of tokens: [samples, tokens, …], of which each sample has its own number."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from builder.artifacts import LENGTHS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    Answers = Mapping[str, np.ndarray]


def own_tokens(expected: Answers, actual: Answers) -> tuple[Answers, Answers]:
    """Both answers with zeros behind each sample's own tokens, and as wide as the expected ones."""
    import numpy as np

    def masked(values: np.ndarray, width: int, fill: float) -> np.ndarray:
        kept = values[:, :width]
        fitted = np.full((len(values), width, *values.shape[2:]), fill, values.dtype)
        fitted[:, : kept.shape[1]] = kept
        own = np.arange(width) < expected[LENGTHS][: len(values), None]
        fitted[~own] = 0
        return fitted

    outputs = {name: values for name, values in expected.items() if name != LENGTHS}
    widths = {name: values.shape[1] for name, values in outputs.items()}
    # Where an answer is too short, its missing tokens are seen as such: they are not finite.
    fits = {name: values for name, values in actual.items() if name in widths and _fits(values, outputs[name])}
    shortened = {name: masked(values, widths[name], math.nan) for name, values in fits.items()}
    return {name: masked(values, widths[name], 0) for name, values in outputs.items()}, {**actual, **shortened}


def _fits(values: np.ndarray, expected: np.ndarray) -> bool:
    """Whether answers differ from the expected ones in the number of tokens at most."""
    same = values.ndim == expected.ndim and len(values) == len(expected) and values.dtype.kind == "f"
    return same and values.shape[2:] == expected.shape[2:]


def widened(answer: Mapping[str, np.ndarray], others: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """An answer as long as the longest of all: what it lacks is NaN."""
    import numpy as np

    wide: dict[str, np.ndarray] = {}
    for name, values in answer.items():
        shapes = [other[name].shape for other in others]
        if len({shape[2:] for shape in shapes}) > 1 or values.ndim < 2 or values.dtype.kind != "f":
            return dict(answer)  # not of one kind: whoever puts them together says so
        wide[name] = np.full((len(values), max(shape[1] for shape in shapes), *values.shape[2:]), np.nan, values.dtype)
        wide[name][:, : values.shape[1]] = values
    return wide
