"""Probabilities → the best labels with their scores, in Triton's Python backend.

In: ``PROBABILITIES`` FP32 [n, L]. Out: ``LABEL`` BYTES [n, k], UTF-8, and ``SCORE`` FP32 [n, k]: the k best, best
first; of equal ones, the one that the model lists first.

``settings.json``: ``labels`` (L texts, in the model's order), ``top_k`` (k), and optionally ``threshold``: a label with
a lower score is given as an empty text with score 0, since all rows of a tensor have the same length.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tritonsmith_step import attempt, load_settings, read, respond


class Labels:
    """Picks labels.

    Args:
        settings: the content of ``settings.json``.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        labels, self.top_k = settings["labels"], settings["top_k"]
        if not 1 <= self.top_k <= len(labels):
            raise ValueError(f"settings.json: top_k is {self.top_k}; allowed: 1 to {len(labels)}, the number of labels")
        self.count = len(labels)
        self._labels = np.array([label.encode("utf-8") for label in labels], dtype=np.object_)
        self._threshold = settings.get("threshold")

    def best(self, probabilities: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs for probabilities [n, L]."""
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : self.top_k]
        names, scores = self._labels[order], np.take_along_axis(probabilities, order, axis=1)
        if self._threshold is not None:
            low = scores < self._threshold
            names[low], scores[low] = b"", 0.0
        return {"LABEL": names, "SCORE": scores}


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002 - Triton's signature
        """Reads the labels."""
        self._labels = Labels(load_settings(Path(__file__).absolute().parent))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers all requests of a call, in order."""
        return [respond(attempt(self._answer, request)) for request in requests]

    def _answer(self, request: Any) -> dict[str, np.ndarray]:
        return self._labels.best(read(request, "PROBABILITIES", (self._labels.count,)))
