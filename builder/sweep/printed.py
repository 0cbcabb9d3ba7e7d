"""Tensors as perf_analyzer's record has them: :mod:`builder.tools.perf_requests` says how it prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from builder.tools.tensors import NUMPY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.artifacts import Json
    from builder.sweep.requests import Request


def item_of(value: Json, dtype: str, dims: Sequence[int], item: int, batch: int) -> Any:  # noqa: ANN401 - an array
    """One item of an output, from what perf_analyzer printed; None: texts that cannot be told from the others'."""
    import numpy as np

    if dtype == "BYTES":
        parts = _bytes_items(value, batch, dims)
        if parts is None:
            return _objects(()) if batch == 1 else None
        return parts[item]
    flat = np.ravel(np.asarray(value, dtype=NUMPY[dtype]))
    if len(flat) % batch:
        return flat[:0]  # nothing that anybody expects
    one = flat.reshape(batch, -1)[item]
    try:
        return one.reshape(dims)
    except ValueError:  # dims with several -1
        return one


def _bytes_items(value: Json, batch: int, dims: Sequence[int]) -> list[Any] | None:
    """The items of an output of texts: without the length of the first, with those of the others."""
    data = str(value).encode("utf-8", "surrogateescape")
    each = 1
    for size in dims:
        each *= size
    if each < 1:
        return None  # of an unknown number
    texts = _split(data, each * batch)
    return None if texts is None else [_objects(texts[at : at + each]) for at in range(0, each * batch, each)]


def _split(data: bytes, count: int) -> list[bytes] | None:
    if count == 1:
        return [data]
    for end in range(len(data) - 3):
        rest = _behind_lengths(data[end:], count - 1)
        if rest is not None:
            return [data[:end], *rest]
    return None


def _behind_lengths(data: bytes, count: int) -> list[bytes] | None:
    texts = []
    for _ in range(count):
        size = int.from_bytes(data[:4], "little")
        if len(data) < 4 + size:
            return None
        texts.append(data[4 : 4 + size])
        data = data[4 + size :]
    return None if data else texts


def _objects(texts: Sequence[bytes]) -> Any:  # noqa: ANN401 - an array
    import numpy as np

    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array


def sent_by(request: Request) -> dict[str, Any]:
    """What a request sends, as :func:`sent` gives it of the record: bytes, or a flat array."""
    return {
        name: b"".join(_lengths_but_first(tensor.ravel())) if tensor.dtype.kind == "O" else tensor.ravel()
        for name, tensor in request.tensors.items()
    }


def _lengths_but_first(texts: Sequence[bytes]) -> list[bytes]:
    first, *others = texts
    cut = first.replace(b"\0", b"") if not others else first
    return [cut, *(len(text).to_bytes(4, "little") + text for text in others)]


def sent(value: Json) -> Any:  # noqa: ANN401 - bytes, or an array
    """What an input was, of the record: bytes, or a flat array."""
    import numpy as np

    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else np.ravel(np.asarray(value))


def is_sent(row: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether the inputs that the record gives are those of a request."""
    import numpy as np

    def alike(one: Any, other: Any) -> bool:  # noqa: ANN401
        if isinstance(one, bytes) or isinstance(other, bytes):
            return bool(one is other or (isinstance(one, bytes) and one == other))
        return one.shape == other.shape and bool(np.allclose(one.astype(float), other.astype(float), rtol=1e-5))

    return bool(given) and row.keys() >= given.keys() and all(alike(row[name], given[name]) for name in given)
