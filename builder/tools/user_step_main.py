"""Runs a user's Python step, in a process of its own: ``python -I user_step_main.py FOLDER REQUEST ANSWER``.

Stands alone, and needs numpy. Each row is asked alone: so what the served step makes of many rows at once is held
against what each of them gives by itself.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253 - a program of its own: nothing else imports it


def main(folder: Path, request: Path, answer: Path) -> None:
    """Answers every row: its outputs, or ``{"error": …}``."""
    asked = json.loads(request.read_bytes())
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder / "vendor"))
    step = load(folder, asked["file"], asked["parameters"])
    answer.write_text(json.dumps([attempt(step, row) for row in asked["rows"]]), encoding="utf-8")


def load(folder: Path, file: str, parameters: dict[str, Any]) -> Any:  # noqa: ANN401 - the user's
    """The function ``run``, or an instance of the class ``Step``."""
    spec = importlib.util.spec_from_file_location("user_step", folder / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Step(folder, parameters) if hasattr(module, "Step") else module.run


def attempt(step: Any, row: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - the user's
    """The outputs of one row, without the batch axis."""
    try:
        outputs = step(**{name: decode(value)[None] for name, value in row.items()})
        return {"outputs": {name: encode(value) for name, value in outputs.items()}}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def decode(value: dict[str, Any]) -> np.ndarray:
    """An array from JSON."""
    if value["dtype"] != "object":
        return np.frombuffer(base64.b64decode(value["data"]), value["dtype"]).reshape(value["shape"]).copy()
    array = np.empty(len(value["data"]), dtype=object)
    array[:] = [base64.b64decode(item) for item in value["data"]]
    return array.reshape(value["shape"])


def encode(value: Any) -> dict[str, Any]:  # noqa: ANN401 - what the user gives
    """An array with a batch axis of 1 as JSON, without that axis."""
    array = np.asarray(value)
    if array.dtype.kind in "OUS":
        array = np.asarray(value, dtype=object)
    if array.shape[:1] != (1,):
        raise ValueError(f"gave shape {list(array.shape)} for one row")
    array = array[0]
    if array.dtype.kind != "O":
        data: Any = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
    else:
        items = [item.encode() if isinstance(item, str) else item for item in array.ravel().tolist()]
        data = [base64.b64encode(item).decode("ascii") for item in items]
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": data}


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
