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

    Few measurements do not tell how large errors are and how far they reach, so several sizes and reaches are kept,
    each with its likelihood as weight. To settle for the likeliest one would be too sure of places far off.

    Args:
        places: of the measurements, shape (measurements, features).
        errors: logarithm of measured / predicted, for each.
        noise: standard deviation of each.
    """

    def __init__(self, places: np.ndarray, errors: Sequence[float], noise: Sequence[float]) -> None:
        import numpy as np

        self._places = places
        distances = squared_distances(places, places)
        variances = np.diag(np.square(np.asarray(noise, dtype=float)))
        kinds = itertools.product(_SCALES, _SIGNALS)
        self._kinds = [_Kind(*kind, distances, variances, np.asarray(errors, dtype=float)) for kind in kinds]
        likelihoods = np.array([kind.likelihood for kind in self._kinds])
        weights = np.exp(likelihoods - likelihoods.max())
        self._weights = weights / weights.sum()

    def at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the error at some places, shape (places, features)."""
        import numpy as np

        distances = squared_distances(places, self._places)
        means, variances = (np.array(each) for each in zip(*(kind.at(distances) for kind in self._kinds), strict=True))
        mean = self._weights @ means
        return mean, np.sqrt(self._weights @ (variances + np.square(means - mean)))


class _Kind:
    """A process with a certain reach and size of errors."""

    def __init__(
        self, scale: float, signal: float, distances: np.ndarray, noise: np.ndarray, errors: np.ndarray
    ) -> None:
        import numpy as np

        self._scale, self._signal = scale, signal
        self._inverse = np.linalg.inv(np.linalg.cholesky(self._kernel(distances) + noise))
        whitened = self._inverse @ errors
        self._weights = self._inverse.T @ whitened
        self.likelihood = float(-0.5 * whitened @ whitened + np.log(np.diag(self._inverse)).sum() - _surprise(signal))

    def at(self, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance at places with these squared distances to the measurements."""
        import numpy as np

        across = self._kernel(distances)
        variance = self._signal**2 + _MEAN_SPREAD**2 - np.square(across @ self._inverse.T).sum(1)
        return across @ self._weights, np.maximum(variance, 1e-10)

    def _kernel(self, distances: np.ndarray) -> np.ndarray:
        import numpy as np

        return np.asarray(self._signal**2 * np.exp(-0.5 * distances / self._scale**2) + _MEAN_SPREAD**2)


def _surprise(signal: float) -> float:
    """Why a prior: the calibration's own errors are next to nothing, because the simulation was fitted to them."""
    median, spread = _EXPECTED
    return 0.5 * (math.log(signal / median) / spread) ** 2


def squared_distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Between each of the one and each of the other."""
    import numpy as np

    squares = np.square(left).sum(1)[:, None] + np.square(right).sum(1)[None, :] - 2 * left @ right.T
    return np.asarray(np.maximum(squares, 0.0))
