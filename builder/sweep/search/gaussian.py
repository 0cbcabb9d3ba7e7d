"""A Gaussian process for few points: what the simulation's errors look like where nothing was measured yet."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

_SCALES: Final = (1.0, 1.5)  # steps along a knob over which errors are alike
_SIGNALS: Final = (0.05, 0.1, 0.2, 0.4)  # how large errors are, in logarithms
_EXPECTED: Final = (0.1, 0.7)  # … before anything was measured: median, and spread of the logarithm
_MEAN_SPREAD: Final = 0.3  # of an error that all settings share


class Process:
    """Errors at places: a squared exponential of distance, plus what all places share, plus the measurements' noise.

    Length and size of the errors are those with the greatest likelihood of what was measured.

    Args:
        places: of the measurements, shape (measurements, features).
        errors: logarithm of measured / predicted, for each.
        noise: standard deviation of each.
    """

    def __init__(self, places: np.ndarray, errors: Sequence[float], noise: Sequence[float]) -> None:
        import numpy as np

        self._places, errors_ = places, np.asarray(errors, dtype=float)
        distances = squared_distances(places, places)
        variances = np.diag(np.square(np.asarray(noise, dtype=float)))
        best = -np.inf
        for scale, signal in itertools.product(_SCALES, _SIGNALS):
            factor = np.linalg.cholesky(_kernel(distances, scale, signal) + variances)
            weights = np.linalg.solve(factor.T, np.linalg.solve(factor, errors_))
            likelihood = -0.5 * errors_ @ weights - np.log(np.diag(factor)).sum() - _surprise(signal)
            if likelihood > best:
                best, self._scale, self._signal, self._factor, self._weights = (
                    likelihood,
                    scale,
                    signal,
                    factor,
                    weights,
                )

    def at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the error at some places, shape (places, features)."""
        import numpy as np

        across = _kernel(squared_distances(places, self._places), self._scale, self._signal)
        explained = np.linalg.solve(self._factor, across.T)
        variance = self._signal**2 + _MEAN_SPREAD**2 - np.square(explained).sum(0)
        return across @ self._weights, np.sqrt(np.maximum(variance, 1e-10))


def _surprise(signal: float) -> float:
    """Why a prior: the calibration's own errors are next to nothing, because the simulation was fitted to them."""
    median, spread = _EXPECTED
    return 0.5 * (math.log(signal / median) / spread) ** 2


def squared_distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Between each of the one and each of the other."""
    import numpy as np

    squares = np.square(left).sum(1)[:, None] + np.square(right).sum(1)[None, :] - 2 * left @ right.T
    return np.asarray(np.maximum(squares, 0.0))


def _kernel(distances: np.ndarray, scale: float, signal: float) -> np.ndarray:
    import numpy as np

    values: np.ndarray = signal**2 * np.exp(-0.5 * distances / scale**2) + _MEAN_SPREAD**2
    return values
