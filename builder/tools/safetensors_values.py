"""Values of stored tensors, through a memory map: only the pages that are asked for are read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from builder.errors import ModelError

if TYPE_CHECKING:
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


def holds(path: Path, span: TensorSpan, array: Array, samples: int = 512) -> bool:
    """Whether a stored tensor is ``array``, by shape and by up to ``samples`` values spread over it.

    Args:
        path: the safetensors file.
        span: the tensor in it.
        array: numpy array, FP32 or of the stored dtype.
        samples: values to compare; all of them in smaller tensors.
    """
    import numpy as np

    if span.shape != array.shape or span.dtype not in _NUMPY:
        return False
    flat = array.reshape(-1)
    chosen = np.linspace(0, max(flat.size - 1, 0), num=min(samples, flat.size), dtype=np.int64)
    stored = values(path, span).reshape(-1)[chosen]
    if array.dtype == np.float32 and span.dtype in {"BF16", "F16", "F64"}:
        stored = as_float32(stored, span.dtype)
    return bool(stored.dtype == array.dtype and np.array_equal(stored, flat[chosen], equal_nan=array.dtype.kind == "f"))
