"""What the Python steps of an archive share; a copy lies beside each ``model.py`` that needs it.

Reading tensors from requests, refusing a request without harm to the others of its call, and answering. Needs numpy,
which every Triton image has.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

try:
    import triton_python_backend_utils as pb_utils
except ImportError:  # outside Triton: tritonsmith itself, and its tests
    pb_utils = None

SETTINGS_SCHEMA = 1


class RefusedError(Exception):
    """A request cannot be answered, and its client is to blame; the others of its call can."""


def load_settings(folder: Path) -> dict[str, Any]:
    """The content of ``settings.json``."""
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    if settings["schema"] != SETTINGS_SCHEMA:
        raise ValueError(f"settings.json has schema {settings['schema']}; this step reads {SETTINGS_SCHEMA}")
    return settings


def use_vendored(folder: Path) -> None:
    """Makes packages in ``vendor/`` beside the step be found first, and keeps the folder as it was shipped."""
    sys.dont_write_bytecode = True  # the folder may be read-only
    sys.path.insert(0, str(folder / "vendor"))


def read(request: Any, name: str, dims: tuple[int, ...], *, finite: bool = True) -> np.ndarray:
    """One tensor of a request, [n, *dims]; a dimension of -1 takes any length.

    Raises:
        RefusedError: it is missing, has another shape, or, where ``finite``, holds what is no finite number.
    """
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        raise RefusedError(f"{name} is missing")
    array = tensor.as_numpy()
    fits = array.ndim == 1 + len(dims) and all(
        want in (-1, have) for want, have in zip(dims, array.shape[1:], strict=True)
    )
    if not fits or array.shape[0] < 1:
        allowed = ", ".join(["n", *map(str, dims)])
        raise RefusedError(f"{name} has shape {list(array.shape)}; allowed: [{allowed}], n at least 1")
    if finite and array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0, 0])
        raise RefusedError(f"{name}, row {row}: holds NaN or infinity; allowed: finite numbers")
    return array


def read_together(request: Any, tensors: dict[str, tuple[int, ...]], *, finite: bool = True) -> dict[str, np.ndarray]:
    """Several tensors of a request, name → [n, *dims], with the same n.

    Raises:
        RefusedError: as :func:`read`, or they have different numbers of rows.
    """
    arrays = {name: read(request, name, dims, finite=finite) for name, dims in tensors.items()}
    rows = [len(array) for array in arrays.values()]
    if len(set(rows)) > 1:
        raise RefusedError(f"{', '.join(arrays)} must have as many rows as each other, got {rows}")
    return arrays


def to_texts(array: np.ndarray, name: str) -> list[str]:
    """The texts of a BYTES tensor [n, 1].

    Raises:
        RefusedError: one is not UTF-8.
    """
    texts = []
    for row, item in enumerate(array[:, 0]):
        try:
            texts.append(item.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise RefusedError(
                f"{name}, row {row}: byte 0x{item[error.start]:02x} at position {error.start} is not UTF-8"
            ) from error
    return texts


def to_column(texts: list[str]) -> np.ndarray:
    """Texts as a BYTES tensor [n, 1]."""
    column = np.empty((len(texts), 1), dtype=np.object_)
    column[:, 0] = [text.encode("utf-8") for text in texts]
    return column


def attempt(compute: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What ``compute`` returns or raises, as a value: the other requests of a call go on."""
    try:
        return compute(*arguments, **options)
    except Exception as error:
        return error


def respond(answer: Any) -> Any:
    """The response to one request: from a dict of name → array, or from the error that it met."""
    if isinstance(answer, RefusedError):
        return _failure(str(answer), pb_utils.TritonError.INVALID_ARG)
    if isinstance(answer, Exception):
        return _failure(f"{type(answer).__name__}: {answer}", pb_utils.TritonError.INTERNAL)
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in answer.items()])


def _failure(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))
