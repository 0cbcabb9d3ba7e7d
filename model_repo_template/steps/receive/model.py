"""Takes a request once, for steps that would all read it at the same time, in Triton's Python backend.

In: what the client sends. Out: the same. Texts that are not UTF-8 are refused here, before any other step has them:
tritonserver (seen with 2.51) uses the memory of a request again as soon as one step has refused it, while others still
read it, and may end where two steps refuse the same request.

``settings.json``: ``tensors``, name → dims without the batch axis, where -1 takes any length; ``texts``, the names of
those that are texts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tritonsmith_step import attempt, load_settings, read_together, respond, to_texts


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002 - Triton's signature
        """Reads the settings."""
        settings = load_settings(Path(__file__).absolute().parent)
        self._tensors = {name: tuple(dims) for name, dims in settings["tensors"].items()}
        self._texts = settings["texts"]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers all requests of a call, in order."""
        return [respond(attempt(self._answer, request)) for request in requests]

    def _answer(self, request: Any) -> dict[str, Any]:
        arrays = read_together(request, self._tensors, finite=False)
        for name in self._texts:
            to_texts(arrays[name], name)
        return arrays
