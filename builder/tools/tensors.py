"""Rows of tensors: from the JSON values that samples hold to numpy arrays."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from builder.artifacts import Json
    from builder.tools.opaque import Array

NUMPY: Final = {
    "BOOL": "bool",
    **{f"{sign}INT{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
}
"""Triton's name of a data type → numpy's."""


def array_of(value: Json, dtype: str) -> Array:
    """A row of a tensor, without the batch axis; one value alone has dims [1].

    Args:
        value: as :class:`~builder.artifacts.Row` holds it.
        dtype: Triton's name; BYTES become an array of dtype object that holds ``bytes``.

    Raises:
        ValueError: the value is not of that type; or TypeError, or OverflowError.
    """
    import numpy as np

    if dtype != "BYTES":
        return np.atleast_1d(np.asarray(value, dtype=NUMPY[dtype]))
    return bytes_array([to_bytes(item) for item in (value if isinstance(value, list) else [value])])


def bytes_array(items: list[bytes]) -> Array:
    """[items], of dtype object."""
    import numpy as np

    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def to_bytes(value: Json) -> bytes:
    """The bytes of a text, or of ``{"base64": …}``."""
    return value.encode() if isinstance(value, str) else base64.b64decode(value["base64"])
