"""The user's own Python file as a step, in Triton's Python backend.

The file lies beside this one, as do its packages in ``vendor/``. It has either a function::

    def run(TEXT: np.ndarray) -> dict[str, np.ndarray]: ...

or, where something is to be loaded once, a class::

    class Step:
        def __init__(self, folder: Path, parameters: dict[str, Any]) -> None: ...
        def __call__(self, TEXT: np.ndarray) -> dict[str, np.ndarray]: ...

Arrays have the batch as their first axis; BYTES are arrays of dtype object that hold ``bytes`` (``str`` may be given
back). The rows of all requests of a call come together, so each row's result must follow from that row alone. When it
raises, each request is tried again alone, and only those get the error for which it raises again: a ``ValueError``
says that the client is to blame.

``settings.json``: ``file``; ``takes`` and ``gives``, name → {"dtype": Triton's name, "dims": [...]} without the batch
axis, where a dimension of -1 takes any length; ``parameters``, whatever the file wants.
"""

from __future__ import annotations

import importlib.util
import traceback
from pathlib import Path
from typing import Any

import numpy as np
from tritonsmith_step import RefusedError, attempt, load_settings, read_together, respond, use_vendored

DTYPES = {
    "BOOL": np.bool_,
    **{f"{sign}INT{bits}": np.dtype(f"{sign.lower()}int{bits}").type for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}


class FaultyStepError(Exception):
    """The user's file does not do what it should; nobody's request is to blame."""


class Step:
    """The user's file, and what it promised.

    Args:
        folder: holds the file.
        settings: the content of ``settings.json``.

    Raises:
        FaultyStepError: the file has neither ``run`` nor ``Step``.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.file = settings["file"]
        self.takes = {name: tuple(tensor["dims"]) for name, tensor in settings["takes"].items()}
        self._gives = settings["gives"]
        module = load(folder / self.file)
        if hasattr(module, "Step"):
            self._run = module.Step(folder, settings.get("parameters", {}))
        elif hasattr(module, "run"):
            self._run = module.run
        else:
            raise FaultyStepError(f"{self.file}: has neither a function run() nor a class Step")

    def answer(self, requests: list[dict[str, np.ndarray]]) -> list[Any]:
        """For each request (name → array) its outputs, or the error that it met."""
        groups: dict[Any, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(tuple(array.shape[1:] for array in request.values()), []).append(index)
        answers: list[Any] = [None] * len(requests)
        for indices in groups.values():
            for index, answer in zip(indices, self._together([requests[i] for i in indices]), strict=True):
                answers[index] = answer
        return answers

    def _together(self, requests: list[dict[str, np.ndarray]]) -> list[Any]:
        counts = [len(next(iter(request.values()))) for request in requests]
        joined = {name: np.concatenate([request[name] for request in requests]) for name in self.takes}
        outputs = attempt(self._call, joined, sum(counts))
        if not isinstance(outputs, Exception):
            split = {name: np.split(array, np.cumsum(counts)[:-1]) for name, array in outputs.items()}
            return [{name: arrays[index] for name, arrays in split.items()} for index in range(len(requests))]
        if len(requests) == 1:
            return [outputs]
        return [self._together([request])[0] for request in requests]

    def _call(self, inputs: dict[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
        try:
            outputs = self._run(**inputs)
        except Exception as error:
            message = f"{self.file}{self._line(error)}: {type(error).__name__}: {error}"
            raise (RefusedError if isinstance(error, ValueError) else FaultyStepError)(message) from error
        if not isinstance(outputs, dict) or set(outputs) != set(self._gives):
            got = sorted(outputs) if isinstance(outputs, dict) else type(outputs).__name__
            raise FaultyStepError(f"{self.file}: gave {got}; it must give a dict of {sorted(self._gives)}")
        return {name: self._checked(name, outputs[name], rows) for name in self._gives}

    def _line(self, error: Exception) -> str:
        """``:12`` where the last line of the user's file that took part is known."""
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename).name == self.file]
        return f":{lines[-1]}" if lines else ""

    def _checked(self, name: str, value: Any, rows: int) -> np.ndarray:
        dtype, dims = self._gives[name]["dtype"], self._gives[name]["dims"]
        array = self._to_bytes(name, value) if dtype == "BYTES" else np.asarray(value)
        if array.dtype != DTYPES[dtype]:
            raise FaultyStepError(
                f"{self.file}: gave {name} as {array.dtype}; the recipe says {dtype}: convert it with "
                f".astype(np.{np.dtype(DTYPES[dtype]).name})"
            )
        wanted = [rows, *dims]
        if array.ndim != len(wanted) or any(
            want not in (-1, have) for want, have in zip(wanted, array.shape, strict=True)
        ):
            raise FaultyStepError(
                f"{self.file}: gave {name} of shape {list(array.shape)} for {rows} rows; the recipe says {wanted}"
            )
        return array

    def _to_bytes(self, name: str, value: Any) -> np.ndarray:
        array = np.asarray(value, dtype=np.object_)
        items = [item.encode("utf-8") if isinstance(item, str) else item for item in array.ravel().tolist()]
        if wrong := [item for item in items if not isinstance(item, bytes)]:
            raise FaultyStepError(f"{self.file}: gave {name} with {wrong[0]!r} in it; BYTES hold bytes or str")
        converted = np.empty(len(items), dtype=np.object_)
        converted[:] = items
        return converted.reshape(array.shape)


def load(path: Path) -> Any:
    """The module of a file, whatever its name is."""
    if not path.is_file():
        raise FaultyStepError(f"{path.name} is not beside model.py")
    spec = importlib.util.spec_from_file_location(f"tritonsmith_user_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002 - Triton's signature
        """Loads the user's file, with its vendored packages first on the path."""
        folder = Path(__file__).absolute().parent
        use_vendored(folder)
        self._step = Step(folder, load_settings(folder))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers all requests of a call, in order."""
        answers = [attempt(read_together, request, self._step.takes, finite=False) for request in requests]
        readable = [index for index, answer in enumerate(answers) if not isinstance(answer, Exception)]
        found = self._step.answer([answers[index] for index in readable])
        for index, answer in zip(readable, found, strict=True):
            answers[index] = answer
        return [respond(answer) for answer in answers]
