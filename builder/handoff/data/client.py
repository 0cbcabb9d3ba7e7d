"""Asks a model that Triton serves on Amazon SageMaker; ``client.json`` beside this file says which.

    python client.py "A cat sits on the mat." "Another text."
    python client.py --json "A cat sits on the mat."                             JSON in place of the binary format
    python client.py --input 'TEXT=[["a"], ["b"]]'                               any tensors, as JSON
    python client.py --save request.json --json "A cat."                         a request, for batches and load tests
    python client.py --url http://127.0.0.1:8080/invocations "A cat."            a server on this machine, or one of
                                                            …/models/NAME/invoke    a multi-model endpoint

Needs numpy; and boto3, unless ``--url`` is given, with your credentials where boto3 looks for them.
"""

from __future__ import annotations

import argparse
import json
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

BINARY = "application/vnd.sagemaker-triton.binary+json;json-header-size="
"""The content type of the binary format, before the size of the JSON header in bytes. No blank after the semicolon."""

TARGET = "X-Amzn-SageMaker-Target-Model"
"""The header by which SageMaker tells the server of a multi-model endpoint what TargetModel says."""

TYPES = {
    "BOOL": "?",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "BYTES": "O",
}


def encode(inputs: dict[str, Any], kinds: dict[str, str], *, binary: bool = True) -> tuple[bytes, str]:
    """A request and its content type.

    Args:
        inputs: name → nested lists or an array, with the batch as first axis.
        kinds: name → Triton's name of the data type: ``BYTES``, ``FP32``.
        binary: tensors as bytes behind a JSON header, which is smaller and faster than JSON alone.
    """
    described: list[dict[str, Any]] = []
    raw = []
    for name, value in inputs.items():
        array = np.asarray(value, dtype=TYPES[kinds[name]])
        tensor: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": kinds[name]}
        if binary:
            raw.append(_to_bytes(array, kinds[name]))
            tensor["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            tensor["data"] = array.ravel().tolist()
        described.append(tensor)
    header: dict[str, Any] = {"inputs": described}
    if binary:
        header["parameters"] = {"binary_data_output": True}
    said = json.dumps(header).encode()
    return b"".join([said, *raw]), f"{BINARY}{len(said)}" if binary else "application/json"


def decode(body: bytes, content_type: str) -> dict[str, Any]:
    """The outputs of an answer: name → array. Its content type says how long its header is, not that of the request."""
    size = int(content_type.removeprefix(BINARY)) if content_type.startswith(BINARY) else len(body)
    answer, offset, found = json.loads(body[:size]), size, {}
    for tensor in answer["outputs"]:
        length = tensor.get("parameters", {}).get("binary_data_size")
        if length is None:
            array = np.array(tensor["data"], dtype=TYPES[tensor["datatype"]])
        else:
            array = _from_bytes(body[offset : offset + length], tensor["datatype"])
            offset += length
        found[tensor["name"]] = array.reshape(tensor["shape"])
    return found


def ask_endpoint(about: dict[str, Any], body: bytes, content_type: str) -> tuple[bytes, str]:
    """Sends a request to the endpoint."""
    import boto3

    client = boto3.client("sagemaker-runtime", region_name=about["region"])
    answer = client.invoke_endpoint(
        EndpointName=about["endpoint"], ContentType=content_type, Body=body, **about.get("invoke", {})
    )
    return answer["Body"].read(), answer["ContentType"]


def ask_url(url: str, body: bytes, content_type: str, target: str = "") -> tuple[bytes, str]:
    """Sends a request to a server: its ``/invocations``, or ``/models/NAME/invoke`` with the target that was loaded."""
    headers = {"Content-Type": content_type, **({TARGET: target} if target else {})}
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - the user's own URL
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return answer.read(), answer.headers["Content-Type"]


def _to_bytes(array: Any, kind: str) -> bytes:  # noqa: ANN401 - any array
    if kind != "BYTES":
        return bytes(array.tobytes())
    items = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel()]
    return b"".join(len(item).to_bytes(4, "little") + item for item in items)


def _from_bytes(raw: bytes, kind: str) -> Any:  # noqa: ANN401
    if kind != "BYTES":
        return np.frombuffer(raw, dtype=TYPES[kind])
    items, offset = [], 0
    while offset < len(raw):
        length = int.from_bytes(raw[offset : offset + 4], "little")
        items.append(raw[offset + 4 : offset + 4 + length].decode())
        offset += 4 + length
    return np.array(items, dtype="O")


def main() -> None:
    """Asks once, and prints the answer as JSON."""
    about = json.loads(Path(__file__).with_name("client.json").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", help="texts, for the first input")
    parser.add_argument("--input", action="append", default=[], metavar="NAME=JSON", help="an input, as nested lists")
    parser.add_argument("--json", action="store_true", help="send JSON")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the request, and print its content type")
    parser.add_argument("--url", help="ask this server, and not the endpoint")
    given = parser.parse_args()
    kinds: dict[str, str] = about["inputs"]
    inputs = {name: json.loads(value) for name, _, value in (one.partition("=") for one in given.input)}
    if given.texts:
        inputs[next(iter(kinds))] = [[text] for text in given.texts]
    body, content_type = encode(inputs, kinds, binary=not given.json)
    if given.save:
        given.save.write_bytes(body)
        print(content_type)
        return
    target = about.get("invoke", {}).get("TargetModel", "")
    answer = ask_url(given.url, body, content_type, target) if given.url else ask_endpoint(about, body, content_type)
    print(json.dumps({name: array.tolist() for name, array in decode(*answer).items()}))


if __name__ == "__main__":
    main()
