"""Bodies of inference requests: as Triton's own client writes and reads them, where that can be asked."""

from __future__ import annotations

import json

import numpy as np
import pytest

from builder.errors import ServerError
from builder.tools import kserve_body

ARRAYS = {
    "floats": np.array([[1.5, -2.25]], np.float32),
    "halves": np.array([[0.5]], np.float16),
    "ids": np.array([[1, 2], [3, 4]], np.int64),
    "flags": np.array([[True], [False]]),
    "texts": np.array([["é".encode()], [b""]], dtype=object),
}


def as_answer(body, header_bytes):
    """What a server that echoes would answer to a request."""
    header = json.loads(body[:header_bytes])
    text = json.dumps({"outputs": header["inputs"]}).encode()
    return text + body[header_bytes:], len(text)


def test_binary_tensors_come_back():
    found = kserve_body.decode(*as_answer(*kserve_body.encode_binary(ARRAYS)))
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        assert found[name].tolist() == array.tolist()


def test_json_tensors_come_back():
    arrays = {name: array for name, array in ARRAYS.items() if name != "halves"}
    body = kserve_body.encode_json(arrays)
    found = kserve_body.decode(as_answer(body, len(body))[0])
    assert {name: array.tolist() for name, array in found.items()} == {
        name: array.tolist() for name, array in arrays.items()
    }


def test_bytes_are_as_tritonclient_writes_them():
    from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

    body, header = kserve_body.encode_binary({"texts": ARRAYS["texts"]})
    assert body[header:] == serialize_byte_tensor(ARRAYS["texts"]).item()
    assert deserialize_bytes_tensor(body[header:]).tolist() == ARRAYS["texts"].ravel().tolist()


def test_bytes_that_are_no_text_do_not_fit_json():
    with pytest.raises(UnicodeDecodeError):
        kserve_body.encode_json({"texts": np.array([[b"\xff"]], dtype=object)})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"outputs": [{"name": "Y"}]}',
        b'{"outputs": [{"name": "Y", "datatype": "FP32", "shape": [2], "data": [1]}]}',
        b'{"outputs": [{"name": "Y", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}]}',
    ],
)
def test_what_is_no_answer_is_said(body):
    with pytest.raises(ServerError, match="cannot be read"):
        kserve_body.decode(body, len(body))
