"""Whether embeddings still have the same nearest neighbours: what a search built on them gives its users.

A cosine to the reference does not tell: int8 by the usual converter keeps it at 0.99 and changes every fifth neighbour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def agreement(expected: np.ndarray, actual: np.ndarray) -> float:
    """The share of samples whose nearest neighbour among the others, by cosine, is the same.

    Args:
        expected: embeddings, [samples, dimensions].
        actual: the same samples' embeddings to compare.
    """
    return float((_nearest(expected) == _nearest(actual)).mean())


def _nearest(embeddings: np.ndarray) -> np.ndarray:
    import numpy as np

    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = embeddings / np.where(norms > 0, norms, 1)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    return np.asarray(similarity.argmax(axis=1))
