"""Initializers whose data lies in files beside the model (``onnx.TensorProto``)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from builder.tools.opaque import Array

Tensor = Any
"""An ``onnx.TensorProto``."""


def is_external(tensor: Tensor) -> bool:
    """Whether its data lies in another file."""
    return bool(tensor.data_location == tensor.EXTERNAL)


def location(tensor: Tensor) -> str:
    """The file's name, relative to the model's folder."""
    return _entries(tensor)["location"]


def length(tensor: Tensor) -> int:
    """Bytes of the data.

    Raises:
        KeyError: the file does not say.
    """
    return int(_entries(tensor)["length"])


def values(tensor: Tensor, folder: Path, dtype: int | None = None) -> Array:
    """The data as a numpy array of its shape, mapped where it is external: only what is used is read.

    Args:
        tensor: the initializer.
        folder: the model's.
        dtype: ONNX data type of external data, where that is not the tensor's.

    Raises:
        OSError: the file cannot be mapped.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    if not is_external(tensor):
        return numpy_helper.to_array(tensor)
    kind, shape = helper.tensor_dtype_to_np_dtype(dtype or tensor.data_type), tuple(tensor.dims)
    if math.prod(shape) == 0:
        return np.zeros(shape, kind)
    entries = _entries(tensor)
    return np.memmap(folder / entries["location"], kind, "r", int(entries.get("offset", "0")), shape)


def point(tensor: Tensor, name: str, offset: int, length: int) -> None:
    """Makes the ``length`` bytes at ``offset`` of the file ``name`` beside the model its data."""
    for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
        tensor.ClearField(field)
    del tensor.external_data[:]
    tensor.data_location = tensor.EXTERNAL
    for key, value in (("location", name), ("offset", str(offset)), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def _entries(tensor: Tensor) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}
