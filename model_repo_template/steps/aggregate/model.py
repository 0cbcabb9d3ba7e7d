"""The probabilities of several models → one, in Triton's Python backend.

In: one FP32 tensor [n, L] for each model, named by ``inputs`` in ``settings.json``. Out: FP32 [n, L], named by
``output``. ``mode`` says how:

* ``mean``: the mean of the models' probabilities;
* ``max``: the greatest that any model gives to the label (the sum over the labels may be above 1);
* ``vote``: the share of the models that find the label the most likely (each has one vote; of a model's equal labels,
  the first has it). Where labels have equally many votes, the one with the highest mean probability wins: its share is
  made greater by the smallest step that FP32 knows, so that whatever takes the greatest finds it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tritonsmith_step import RefusedError, attempt, load_settings, read_together, respond


def mean(stacked: np.ndarray) -> np.ndarray:
    """[models, n, L] → [n, L]."""
    return stacked.mean(axis=0)


def maximum(stacked: np.ndarray) -> np.ndarray:
    """[models, n, L] → [n, L]."""
    return stacked.max(axis=0)


def vote(stacked: np.ndarray) -> np.ndarray:
    """[models, n, L] → [n, L]."""
    labels = np.arange(stacked.shape[2])
    votes = (stacked.argmax(axis=2)[:, :, None] == labels).sum(axis=0)
    shares = (votes / len(stacked)).astype(np.float32)
    leading = votes == votes.max(axis=1, keepdims=True)
    winners = np.where(leading, mean(stacked), -np.inf).argmax(axis=1)
    tied, rows = leading.sum(axis=1) > 1, np.arange(len(votes))
    shares[rows[tied], winners[tied]] = np.nextafter(shares[rows[tied], winners[tied]], np.float32(2))
    return shares


MODES = {"mean": mean, "max": maximum, "vote": vote}


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002 - Triton's signature
        """Reads the settings."""
        settings = load_settings(Path(__file__).absolute().parent)
        if settings["mode"] not in MODES:
            raise ValueError(f"settings.json: mode is {settings['mode']!r}; allowed: {', '.join(MODES)}")
        self._combine = MODES[settings["mode"]]
        self._inputs = dict.fromkeys(settings["inputs"], (-1,))
        self._output = settings["output"]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers all requests of a call, in order."""
        return [respond(attempt(self._answer, request)) for request in requests]

    def _answer(self, request: Any) -> dict[str, np.ndarray]:
        arrays = read_together(request, self._inputs)
        lengths = [array.shape[1] for array in arrays.values()]
        if len(set(lengths)) > 1:
            raise RefusedError(f"{', '.join(arrays)} must have as many labels as each other, got {lengths}")
        return {self._output: self._combine(np.stack(list(arrays.values()))).astype(np.float32)}
