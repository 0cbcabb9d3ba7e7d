"""Bytes of Triton's data types."""

from __future__ import annotations

from typing import Final

STRING: Final = 13  # DataType.TYPE_STRING

_BYTES: Final = (0, 1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8, 0, 2)
"""By the number of ``DataType`` in model_config.proto: none, bool, unsigned, signed, floating, string, bf16."""


def size_of(data_type: int) -> int:
    """Bytes of one element; 0 for a string, whose size varies, and for no type."""
    return _BYTES[data_type] if 0 <= data_type < len(_BYTES) else 0
