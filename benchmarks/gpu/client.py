"""The least of a KServe client: Triton's HTTP service with its binary tensors, on the standard library and numpy."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from typing import Any

import numpy as np

from builder.errors import ServerError

TYPES = {"INT64": np.int64, "FP32": np.float32}
_NAMES = {np.dtype(kind): name for name, kind in TYPES.items()}
_HEADER = "Inference-Header-Content-Length"


def infer(address: str, model: str, inputs: dict[str, Any], timeout_seconds: float = 120.0) -> dict[str, Any]:
    """Asks a model once.

    Args:
        address: ``host:port`` of the HTTP service.
        model: its name.
        inputs: arrays by name, with the batch axis.
        timeout_seconds: for the answer.

    Raises:
        ServerError: it was refused, or there is no answer.
    """
    tensors = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": _NAMES[array.dtype],
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in inputs.items()
    ]
    head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
    body = b"".join([head, *(array.tobytes() for array in inputs.values())])
    said, headers = _ask(address, "POST", f"/v2/models/{model}/infer", body, {_HEADER: str(len(head))}, timeout_seconds)
    length = int(headers.get(_HEADER, len(said)))
    answers, offset = {}, length
    for tensor in json.loads(said[:length])["outputs"]:
        size = tensor["parameters"]["binary_data_size"]
        values = np.frombuffer(said[offset : offset + size], TYPES[tensor["datatype"]])
        answers[tensor["name"]] = values.reshape(tensor["shape"])
        offset += size
    return answers


def statistics(address: str, model: str) -> dict[str, Any]:
    """What the server counted for a model."""
    said, _ = _ask(address, "GET", f"/v2/models/{model}/stats", b"", {}, 10.0)
    stats: dict[str, Any] = json.loads(said)["model_stats"][0]
    return stats


def _ask(
    address: str, method: str, path: str, body: bytes, headers: dict[str, str], timeout_seconds: float
) -> tuple[bytes, dict[str, str]]:
    with closing(http.client.HTTPConnection(address, timeout=timeout_seconds)) as connection:
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"tritonserver did not answer {path}: {error}") from error
    if answer.status != http.HTTPStatus.OK:
        raise ServerError(f"tritonserver refused {path}: {said.decode(errors='replace')[:1000]}")
    return said, dict(answer.getheaders())
