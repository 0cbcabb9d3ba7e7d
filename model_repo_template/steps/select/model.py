"""Each row → the model that its case names, in Triton's Python backend, by calls to other models of the server (BLS).

In: the text that decides, BYTES [n, 1], and the tensors that the chosen models take. Out: what these models give, each
row at its place.

``settings.json``: ``by`` (the name of the deciding tensor), ``cases`` (its value → model), ``default`` (the model for
any other value; null: such a request is refused), ``inputs`` and ``outputs`` (names of tensors, which all these models
share), and optionally ``max_rows``: their least max_batch_size, so that no call has more rows.

All rows of one call for the same model travel in one request, and models run at the same time. When that fails, each
client's rows are asked again alone, so that only the client whose rows are bad gets the error.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tritonsmith_step import RefusedError, attempt, load_settings, pb_utils, read, respond, to_texts


class Part(NamedTuple):
    """The rows of one request that go to the same model."""

    request: int
    rows: list[int]
    inputs: dict[str, np.ndarray]


class Selection:
    """Divides requests among models, and joins their answers.

    Args:
        settings: the content of ``settings.json``.
        call: ``await call(model, inputs)`` returns the outputs, name → array, or raises.
    """

    def __init__(self, settings: dict[str, Any], call: Any) -> None:
        self._settings, self._call = settings, call

    async def answer(self, requests: list[dict[str, np.ndarray]]) -> list[Any]:
        """For each request (name → array [n, …]) its outputs, or the error that it met."""
        divided = [attempt(self._divide, index, request) for index, request in enumerate(requests)]
        calls: dict[Any, list[Part]] = {}
        for parts in divided:
            for model, part in [] if isinstance(parts, Exception) else parts.items():
                shapes = tuple(array.shape[1:] for array in part.inputs.values())
                calls.setdefault((model, shapes), []).append(part)
        pieces = [(model, piece) for (model, _), parts in calls.items() for piece in self._pieces(parts)]
        results = await asyncio.gather(*(self._ask(model, piece) for model, piece in pieces))
        found = [result for piece in results for result in piece]
        return [
            parts
            if isinstance(parts, Exception)
            else attempt(self._join, [(part, outputs) for part, outputs in found if part.request == index])
            for index, parts in enumerate(divided)
        ]

    def _divide(self, index: int, request: dict[str, np.ndarray]) -> dict[str, Part]:
        cases, default, by = self._settings["cases"], self._settings["default"], self._settings["by"]
        rows: dict[str, list[int]] = {}
        for row, value in enumerate(to_texts(request[by], by)):
            model = cases.get(value, default)
            if model is None:
                raise RefusedError(f"{by}, row {row}: {value[:80]!r} has no model; allowed: {', '.join(cases)}")
            rows.setdefault(model, []).append(row)
        names = self._settings["inputs"]
        return {
            model: Part(index, picked, {name: request[name][picked] for name in names})
            for model, picked in rows.items()
        }

    def _pieces(self, parts: list[Part]) -> list[list[Part]]:
        """Parts that together have at most ``max_rows`` rows; one that alone has more is for its model to refuse."""
        limit = self._settings.get("max_rows")
        pieces: list[list[Part]] = []
        for part in parts:
            if pieces and (limit is None or sum(len(other.rows) for other in (*pieces[-1], part)) <= limit):
                pieces[-1].append(part)
            else:
                pieces.append([part])
        return pieces

    async def _ask(self, model: str, parts: list[Part]) -> list[tuple[Part, Any]]:
        names = self._settings["inputs"]
        inputs = {name: np.concatenate([part.inputs[name] for part in parts]) for name in names}
        try:
            outputs = await self._call(model, inputs)
        except Exception as error:
            if len(parts) == 1:
                return [(parts[0], error)]
            alone = await asyncio.gather(*(self._ask(model, [part]) for part in parts))
            return [result for results in alone for result in results]
        ends = np.cumsum([len(part.rows) for part in parts])
        split = {name: np.split(array, ends[:-1]) for name, array in outputs.items()}
        return [(part, {name: arrays[index] for name, arrays in split.items()}) for index, part in enumerate(parts)]

    def _join(self, found: list[tuple[Part, Any]]) -> dict[str, np.ndarray]:
        for _, outputs in found:
            if isinstance(outputs, Exception):
                raise outputs
        order = np.argsort([row for part, _ in found for row in part.rows])
        joined = {}
        for name in self._settings["outputs"]:
            arrays = [outputs[name] for _, outputs in found]
            shapes = sorted({array.shape[1:] for array in arrays})
            if len(shapes) > 1:
                shown = " and ".join(str(list(shape)) for shape in shapes)
                raise RefusedError(f"{name}: the rows' models give the shapes {shown}; send the rows one by one")
            joined[name] = np.concatenate(arrays)[order]
        return joined


async def call_model(model: str, inputs: dict[str, np.ndarray], outputs: list[str]) -> dict[str, np.ndarray]:
    """Asks a model of this server.

    Raises:
        RefusedError: it does not answer; with its own words.
    """
    tensors = [pb_utils.Tensor(name, array) for name, array in inputs.items()]
    request = pb_utils.InferenceRequest(model_name=model, requested_output_names=outputs, inputs=tensors)
    response = await request.async_exec()
    if response.has_error():
        raise RefusedError(f"model {model!r}: {response.error().message()}")
    return {name: pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in outputs}


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002 - Triton's signature
        """Reads the settings."""
        self._settings = load_settings(Path(__file__).absolute().parent)
        outputs = self._settings["outputs"]
        self._selection = Selection(self._settings, lambda model, inputs: call_model(model, inputs, outputs))

    async def execute(self, requests: list[Any]) -> list[Any]:
        """Answers all requests of a call, in order."""
        answers = [attempt(self._read, request) for request in requests]
        readable = [index for index, answer in enumerate(answers) if not isinstance(answer, Exception)]
        found = await self._selection.answer([answers[index] for index in readable])
        for index, answer in zip(readable, found, strict=True):
            answers[index] = answer
        return [respond(answer) for answer in answers]

    def _read(self, request: Any) -> dict[str, np.ndarray]:
        arrays = {name: pb_utils.get_input_tensor_by_name(request, name) for name in self._settings["inputs"]}
        if missing := [name for name, tensor in arrays.items() if tensor is None]:
            raise RefusedError(f"{missing[0]} is missing")
        by = self._settings["by"]
        return {name: tensor.as_numpy() for name, tensor in arrays.items()} | {by: read(request, by, (1,))}
