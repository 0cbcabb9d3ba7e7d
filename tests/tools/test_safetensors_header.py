"""The header reader against files of the reference implementation, and against every kind of damage."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from builder.errors import ModelError
from builder.tools.safetensors_header import DTYPE_BITS, TensorSpan, read_header

if TYPE_CHECKING:
    from pathlib import Path

ARRAYS = {
    "b.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array([1, 2, 3], dtype=np.int64),
    "empty": np.zeros((0, 4), dtype=np.float16),
    "scalar": np.array(7, dtype=np.uint8),
}


def raw(path: Path, header: object, data: bytes = b"") -> Path:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content + data)
    return path


def entry(dtype: str = "F32", shape: tuple = (1,), offsets: tuple = (0, 4)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(ARRAYS, path, metadata={"format": "pt"})
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_header(path)
    assert str(path) in caught.value.message
    assert caught.value.mend
    return caught.value.message


def test_spans_are_the_bytes_of_the_tensors(good):
    spans = read_header(good)
    content = good.read_bytes()
    assert set(spans) == set(ARRAYS)
    for name, span in spans.items():
        assert content[span.begin : span.end] == ARRAYS[name].tobytes()
        assert span.shape == ARRAYS[name].shape
    assert (spans["b.weight"].dtype, spans["a"].dtype, spans["empty"].dtype) == ("F32", "I64", "F16")
    assert [span.begin for span in spans.values()] == sorted(span.begin for span in spans.values())


def test_every_dtype_that_torch_writes_is_known(tmp_path):
    import torch
    from safetensors.torch import save_file as save

    dtypes = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16,
              torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64]  # fmt: skip
    save({str(dtype): torch.zeros(3, 2).to(dtype) for dtype in dtypes}, tmp_path / "m")
    assert {span.dtype for span in read_header(tmp_path / "m").values()} <= set(DTYPE_BITS)


def test_a_file_without_tensors(tmp_path):
    assert read_header(raw(tmp_path / "m", {})) == {}
    assert read_header(raw(tmp_path / "m", {"__metadata__": {"a": "b"}})) == {}


def test_truncated_at_every_place(good, tmp_path):
    content = good.read_bytes()
    for size in range(len(content)):
        cut = tmp_path / "cut"
        cut.write_bytes(content[:size])
        assert refusal(cut)


def test_the_message_says_where_it_is_cut(good):
    content = good.read_bytes()
    good.write_bytes(content[:5])
    assert "5 bytes, fewer than the 8" in refusal(good)
    good.write_bytes(content[:20])
    assert "cut off inside its header: 20 bytes, the header alone needs" in refusal(good)
    good.write_bytes(content[:-1])
    size = len(content)
    assert f"it ends at byte {size}, the file at byte {size - 1}" in refusal(good)
    assert "cut off inside tensor" in refusal(good)


def test_bytes_after_the_last_tensor(good):
    good.write_bytes(good.read_bytes() + b"xy")
    assert "2 bytes after tensor" in refusal(good)


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (b"{", b"", "not a safetensors file: it begins with"),
        (b"[]", b"", "not a safetensors file: it begins with"),
        (b" {}", b"", "not a safetensors file: it begins with"),
        (b"{x", b"", "its header is not JSON"),
        (b"{\xff", b"", "its header is not JSON"),
        (b'{"a":' + b"[" * 100_000, b"", "its header is not JSON"),
        (b'{"a": 1, "a": 2}', b"", "'a' is there twice"),
        ({"a": 1}, b"", "tensor 'a' needs dtype, shape and two data_offsets"),
        ({"a": {"dtype": "F32", "shape": [1]}}, b"", "tensor 'a' needs dtype, shape and two data_offsets"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}, b"", "needs dtype, shape and two data_offsets"),
        ({"a": entry("F31")}, b"0000", "tensor 'a' has the unknown dtype 'F31'; known: F4"),
        ({"a": entry(shape=(-1,))}, b"0000", "must be whole numbers"),
        ({"a": entry(shape=("1",))}, b"0000", "must be whole numbers"),
        ({"a": entry(shape=(True,))}, b"0000", "must be whole numbers"),
        ({"a": entry(offsets=(-4, 0))}, b"0000", "must be whole numbers"),
        ({"a": entry(offsets=(0.0, 4.0))}, b"0000", "must be whole numbers"),
        ({"a": entry(shape=(2,))}, b"0000", "tensor 'a' (F32 [2]) needs 8 bytes, has 4"),
        ({"a": entry("F4", (3,), (0, 2))}, b"00", "tensor 'a' (F4 [3]) needs 1 bytes, has 2"),
        ({"a": entry(offsets=(4, 8))}, b"0" * 8, "leaves a gap after the header"),
        ({"a": entry(), "b": entry(offsets=(8, 12))}, b"0" * 12, "leaves a gap after tensor 'a'"),
        ({"a": entry(), "b": entry(offsets=(0, 4))}, b"0000", "overlaps tensor 'a'"),
        ({"a": entry(), "b": entry(offsets=(2, 6))}, b"0" * 6, "overlaps tensor 'a'"),
        ({"a": entry("U8", (2**62, 4), (0, 2**64))}, b"", "cut off inside tensor 'a'"),
    ],
)
def test_damage_is_named(tmp_path, header, data, message):
    assert message in refusal(raw(tmp_path / "m", header, data))


def test_what_is_no_safetensors_file_at_all(tmp_path):
    (tmp_path / "m").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert "not a safetensors file" in refusal(tmp_path / "m")
    (tmp_path / "m").write_bytes(b"PK\x03\x04" + b"\0" * 100)
    assert "not a safetensors file" in refusal(tmp_path / "m")


def test_a_missing_file_is_the_callers_affair(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "no")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_gets_through_that_the_reference_implementation_finds(good, tmp_path, data):
    content = bytearray(good.read_bytes())
    header = 8 + struct.unpack("<Q", content[:8])[0]
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    changed = tmp_path / "changed"
    changed.write_bytes(content)
    try:
        with safe_open(changed, framework="np") as file:
            names = set(file.keys())
    except (SafetensorError, OSError):
        names = None
    try:
        ours = read_header(changed)
    except ModelError:
        ours = None
    assert ours is None or names == set(ours)
    assert ours is None or all(isinstance(span, TensorSpan) for span in ours.values())
