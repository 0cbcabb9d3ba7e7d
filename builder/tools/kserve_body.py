"""Bodies of inference requests over HTTP: KServe v2 JSON, and Triton's binary extension of it.

Protocol: https://github.com/kserve/open-inference-protocol and Triton's ``protocol/extension_binary_data.md``: a JSON
header, and after it the raw tensors, of which the header says the sizes. Written here because tritonclient's own code
for it needs gevent.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from builder.errors import ServerError
from builder.tools.tensors import NUMPY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

    from builder.artifacts import Json

NOT_IN_JSON: Final = ("FP16", "BF16")
"""Data types that Triton's JSON has no notation for."""

_LENGTH_BYTES: Final = 4  # before each element of a BYTES tensor


def encode_json(inputs: Mapping[str, np.ndarray]) -> bytes:
    """A request as JSON alone.

    Args:
        inputs: name → array; BYTES are of dtype object and hold bytes, which must be UTF-8.

    Raises:
        UnicodeDecodeError: bytes that are no text, which JSON cannot hold.
    """
    tensors = [_tensor(name, array) | {"data": _values(array)} for name, array in inputs.items()]
    return json.dumps({"inputs": tensors}).encode()


def encode_binary(inputs: Mapping[str, np.ndarray]) -> tuple[bytes, int]:
    """A request with binary tensors, which asks for binary answers.

    Returns:
        The body, and how many of its bytes are the JSON header.
    """
    raw = {name: _raw(array) for name, array in inputs.items()}
    tensors = [
        _tensor(name, array) | {"parameters": {"binary_data_size": len(raw[name])}} for name, array in inputs.items()
    ]
    header = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
    return b"".join((header, *raw.values())), len(header)


def decode(body: bytes, header_bytes: int | None = None) -> dict[str, np.ndarray]:
    """The outputs of an answer.

    Args:
        body: of the response.
        header_bytes: how many of them are the JSON header; None: all.

    Returns:
        name → array; BYTES are of dtype object and hold bytes.

    Raises:
        ServerError: it is no such answer.
    """
    try:
        outputs = json.loads(body[:header_bytes])["outputs"]
        return dict(_decoded(outputs, memoryview(body)[len(body) if header_bytes is None else header_bytes :]))
    except (ValueError, LookupError, TypeError) as error:
        raise ServerError(f"an answer that cannot be read: {type(error).__name__}: {error}: {body[:80]!r}") from error


def _decoded(outputs: Sequence[Mapping[str, Any]], raw: memoryview) -> Iterator[tuple[str, np.ndarray]]:
    for output in outputs:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            yield output["name"], _from_json(output)
        else:
            if size > len(raw):
                raise ValueError(f"{output['name']} is cut off")
            yield output["name"], _from_raw(output, bytes(raw[:size]))
            raw = raw[size:]


def _tensor(name: str, array: np.ndarray) -> dict[str, Json]:
    return {"name": name, "shape": list(array.shape), "datatype": _datatype(array)}


def _datatype(array: np.ndarray) -> str:
    return next(name for name, numpy in NUMPY.items() if numpy == array.dtype.name)


def _values(array: np.ndarray) -> list[Json]:
    values: list[Json] = array.ravel().tolist()
    return [value.decode() if isinstance(value, bytes) else value for value in values]


def _raw(array: np.ndarray) -> bytes:
    if array.dtype.name != "object":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return b"".join(len(value).to_bytes(_LENGTH_BYTES, "little") + value for value in array.ravel().tolist())


def _from_json(output: Mapping[str, Any]) -> np.ndarray:
    import numpy as np

    values = output["data"]
    if output["datatype"] == "BYTES":
        values = [value.encode() for value in values]
    array = np.empty(len(values), dtype=NUMPY[output["datatype"]])
    array[:] = values
    return array.reshape(output["shape"])


def _from_raw(output: Mapping[str, Any], raw: bytes) -> np.ndarray:
    import numpy as np

    if output["datatype"] != "BYTES":
        dtype = np.dtype(NUMPY[output["datatype"]]).newbyteorder("<")
        return np.frombuffer(raw, dtype).astype(dtype.newbyteorder("=")).reshape(output["shape"])
    values = list(_elements(raw))
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array.reshape(output["shape"])


def _elements(raw: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(raw):
        length = int.from_bytes(raw[at : at + _LENGTH_BYTES], "little")
        at += _LENGTH_BYTES + length
        if at > len(raw):
            raise ValueError("an element of a BYTES tensor is cut off")
        yield raw[at - length : at]
