"""A user's Python step, run outside the server, in a process of its own."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder.errors import MachineError, UserError
from builder.tools import archive_environment, process
from builder.tools.tensors import NUMPY, bytes_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.artifacts import Json
    from builder.tools.opaque import Array

_MAIN: Final = Path(__file__).with_name("user_step_main.py")
_TIMEOUT_SECONDS: Final = 1800.0


def run(
    folder: Path, options: Mapping[str, Json], rows: Sequence[Mapping[str, Array]], work: Path
) -> list[dict[str, Array]]:
    """The outputs of each row, asked alone.

    Args:
        folder: holds the file, and its packages in ``vendor/``, or its environment.
        options: ``file``, ``gives`` (name → {"dtype", "dims"}), ``parameters``.
        rows: for each row its inputs, name → array without the batch axis.
        work: a folder for temporary files.

    Raises:
        UserError: the file cannot be loaded, refuses a row, or gives something other than it should.
    """
    request, answer = work / "request.json", work / "answer.json"
    asked = [{name: _encode(array) for name, array in row.items()} for row in rows]
    document = {"file": options["file"], "parameters": options.get("parameters", {}), "rows": asked}
    request.write_text(json.dumps(document), encoding="utf-8")
    try:
        command: list[str | Path] = [*_python(folder, work), "-I", "-B", _MAIN, folder, request, answer]
        process.run(command, what=str(options["file"]), timeout_seconds=_TIMEOUT_SECONDS)
    except MachineError as error:
        raise UserError(error.message, mend="the step must also run where the archive is built") from error
    answers = json.loads(answer.read_bytes())
    return [_checked(options, index, found) for index, found in enumerate(answers)]


def _python(folder: Path, work: Path) -> list[str | Path]:
    """The Python that runs a step: ours, or that of its own environment, activated as Triton does it."""
    packed = folder / archive_environment.FILE_NAME
    if not packed.is_file():
        return [sys.executable]
    unpacked = work / f"environment-{folder.name}"
    if not unpacked.exists():
        archive_environment.unpack(packed, unpacked)
    return ["bash", "-c", 'source "$0/bin/activate" && exec python "$@"', unpacked]


def _checked(options: Mapping[str, Json], index: int, found: Mapping[str, Any]) -> dict[str, Array]:
    place = f"{options['file']}: sample {index + 1}"
    if "error" in found:
        raise UserError(f"{place}: {found['error']}", mend="give samples that the step answers")
    outputs, gives = found["outputs"], options["gives"]
    if set(outputs) != set(gives):
        raise UserError(f"{place}: gave {sorted(outputs)}; the recipe says {sorted(gives)}")
    return {name: _decode(f"{place}: {name}", outputs[name], gives[name]) for name in gives}


def _decode(place: str, value: Mapping[str, Any], wanted: Mapping[str, Any]) -> Array:
    import numpy as np

    shape, dims = value["shape"], wanted["dims"]
    fits = len(shape) == len(dims) and all(want in (-1, have) for want, have in zip(dims, shape, strict=True))
    if value["dtype"] != NUMPY[wanted["dtype"]] or not fits:
        raise UserError(f"{place} is {value['dtype']} {shape}; the recipe says {wanted['dtype']} {list(dims)}")
    if value["dtype"] == "object":
        return bytes_array([base64.b64decode(item) for item in value["data"]]).reshape(shape)
    return np.frombuffer(base64.b64decode(value["data"]), value["dtype"]).reshape(shape)


def _encode(array: Array) -> dict[str, Any]:
    if array.dtype.kind == "O":
        data: Any = [base64.b64encode(item).decode("ascii") for item in array.ravel().tolist()]
    else:
        data = base64.b64encode(array.tobytes()).decode("ascii")
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": data}
