"""Values of stored tensors, through a memory map: only the pages that are asked for are read. And whole files."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from builder.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.tools.opaque import Array
    from builder.tools.safetensors_header import TensorSpan

_NUMPY: Final = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
"""Dtypes of safetensors that a model may hold → numpy's; numpy has no BF16, which is the upper half of an F32."""

_RUN: Final = 16  # values
_PLACES: Final = (0.0, 0.1234, 0.3717, 0.5871, 0.8193, 1.0)
"""Fractions of a tensor's length at which runs are compared."""


def values(path: Path, span: TensorSpan) -> Array:
    """A stored tensor as a read-only numpy array of its own dtype, mapped; BF16 as its bits, uint16.

    Raises:
        ModelError: the dtype is not one of a text model's.
        OSError: the file cannot be mapped.
    """
    import numpy as np

    if span.dtype not in _NUMPY:
        raise ModelError(f"{path.name}: weights of dtype {span.dtype}; supported are {', '.join(_NUMPY)}")
    count = math.prod(span.shape)
    if count == 0:
        return np.zeros(span.shape, _NUMPY[span.dtype])
    mapped = np.memmap(path, dtype=_NUMPY[span.dtype], mode="r", offset=span.begin, shape=(count,))
    return mapped.reshape(span.shape)


def as_float32(array: Array, dtype: str) -> Array:
    """Stored floating-point values as FP32, rounded as torch does (to nearest, ties to even)."""
    import numpy as np

    if dtype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


def holds(path: Path, span: TensorSpan, array: Array) -> bool:
    """Whether a stored tensor is ``array``, by shape and by some of its values (all of them where it is small).

    Args:
        path: the safetensors file.
        span: the tensor in it.
        array: numpy array, FP32 or of the stored dtype.
    """
    import numpy as np

    if span.shape != array.shape or span.dtype not in _NUMPY:
        return False
    chosen = _sample(array.size)
    flat, stored = array.reshape(-1)[chosen], values(path, span).reshape(-1)[chosen]
    if array.dtype == np.float32 and span.dtype in {"BF16", "F16", "F64"}:
        stored = as_float32(stored, span.dtype)
    return bool(stored.dtype == flat.dtype and np.array_equal(stored, flat, equal_nan=flat.dtype.kind == "f"))


def save_arrays(arrays: Mapping[str, Array], path: Path) -> None:
    """Writes numpy arrays as a safetensors file."""
    from safetensors.numpy import save_file

    save_file(dict(sorted(arrays.items())), path)


def load_arrays(path: Path) -> dict[str, Array]:
    """Reads a safetensors file as numpy arrays."""
    from safetensors.numpy import load_file

    return dict(load_file(path))


def _sample(size: int) -> Array:
    """Indices of a few runs of values: each run costs one page of the file.

    They begin at odd fractions: a permutation of rows, heads or halves leaves the round ones in place.
    """
    import numpy as np

    if size <= _RUN * len(_PLACES):
        return np.arange(size)
    return np.concatenate([np.arange(_RUN) + int((size - _RUN) * place) for place in _PLACES])
