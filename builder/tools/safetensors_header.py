"""The header of a safetensors file: what is in it and where, without reading the weights.

Format: https://huggingface.co/docs/safetensors: 8 bytes little-endian length N, N bytes of JSON, then the tensors'
bytes, without gaps and without overlap, up to the end of the file.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.artifacts import Json

HEADER_LIMIT_BYTES: Final = 100_000_000  # the limit of the reference implementation
_LENGTH_BYTES: Final = 8
_MEND: Final = "fetch the file again, and compare its size with the one its publisher states"

DTYPE_BITS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
"""Bits per element of every dtype of the format."""


@dataclass(frozen=True, slots=True)
class TensorSpan:
    """One tensor: its dtype (the format's name: ``F32``), its shape, and its bytes ``[begin, end)`` of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int  # bytes from the start of the file
    end: int


def read_header(path: Path) -> dict[str, TensorSpan]:
    """Every tensor of the file, ordered by place. Reads the header alone, and proves that it fits the file.

    Raises:
        ModelError: the file is no whole safetensors file: truncated, too long, or its header is wrong.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        prefix = stream.read(_LENGTH_BYTES)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < _LENGTH_BYTES:
            raise _broken(path, f"{size} bytes, fewer than the {_LENGTH_BYTES} that every safetensors file begins with")
        first = stream.read(1)
        if length < 2 or length > HEADER_LIMIT_BYTES or first not in {b"", b"{"}:
            raise _broken(path, f"not a safetensors file: it begins with {(prefix + first)!r}")
        if size < _LENGTH_BYTES + length:
            raise _broken(path, f"cut off inside its header: {size} bytes, the header alone needs {8 + length}")
        header = _parse(path, first + stream.read(length - 1))
    begin = _LENGTH_BYTES + length
    spans = {name: _span(path, name, entry, begin) for name, entry in header.items() if name != "__metadata__"}
    ordered = dict(sorted(spans.items(), key=lambda item: (item[1].begin, item[1].end)))
    _check_cover(path, ordered, begin, size)
    return ordered


def _parse(path: Path, content: bytes) -> dict[str, Json]:
    try:
        header = json.loads(content, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its header is not JSON: {error}") from error
    return dict(header)  # it begins with a brace


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        twice = next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index]))
        raise ValueError(f"{twice!r} is there twice")
    return entries


def _span(path: Path, name: str, entry: Json, begin: int) -> TensorSpan:
    try:
        dtype, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(path, f"tensor {name!r} needs dtype, shape and two data_offsets") from error
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise _broken(path, f"tensor {name!r} has the unknown dtype {dtype!r}; known: {', '.join(DTYPE_BITS)}")
    if not all(type(number) is int and number >= 0 for number in (*shape, first, last)):
        raise _broken(path, f"tensor {name!r}: shape {list(shape)} and offsets {first}, {last} must be whole numbers")
    needed, odd = divmod(math.prod(shape) * DTYPE_BITS[dtype], 8)
    if odd or last - first != needed:
        raise _broken(path, f"tensor {name!r} ({dtype} {list(shape)}) needs {needed} bytes, has {last - first}")
    return TensorSpan(dtype, shape, begin + first, begin + last)


def _check_cover(path: Path, spans: Mapping[str, TensorSpan], begin: int, size: int) -> None:
    """Tensors must follow each other without gap or overlap, from the header to the end of the file."""
    place, previous = begin, "the header"
    for name, span in spans.items():
        if span.begin != place:
            words = "overlaps" if span.begin < place else "leaves a gap after"
            raise _broken(path, f"tensor {name!r} at byte {span.begin} {words} {previous}, which ends at byte {place}")
        if span.end > size:
            raise _broken(path, f"cut off inside tensor {name!r}: it ends at byte {span.end}, the file at byte {size}")
        place, previous = span.end, f"tensor {name!r}"
    if place != size:
        raise _broken(
            path, f"{size - place} bytes after {previous}, which ends at byte {place}: they belong to no tensor"
        )


def _broken(path: Path, what: str) -> ModelError:
    return ModelError(f"{path}: {what}", mend=_MEND)
