"""Values of stored tensors, as torch reads them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from builder.errors import ModelError
from builder.tools.safetensors_header import read_header
from builder.tools.safetensors_values import as_float32, holds, load_arrays, save_arrays, values

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@pytest.fixture
def stored(tmp_path):
    """path, header and the tensors of a file with every dtype."""
    torch.manual_seed(0)
    tensors = {name: torch.randn(40, 30).to(dtype) for name, dtype in DTYPES.items()}
    tensors |= {
        "I64": torch.arange(12).reshape(3, 4),
        "empty": torch.zeros(0, 3),
        "odd": torch.zeros(3, dtype=torch.uint8),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors", read_header(tmp_path / "model.safetensors"), tensors


@pytest.mark.parametrize("name", DTYPES)
def test_become_fp32_as_torch_does_it(stored, name):
    path, header, tensors = stored

    array = as_float32(values(path, header[name]), name)

    assert array.dtype == np.float32
    assert np.array_equal(array, tensors[name].float().numpy())


@pytest.mark.parametrize("name", [*DTYPES, "I64", "empty"])
def test_holds_what_is_stored_and_nothing_else(stored, name):
    path, header, tensors = stored
    array = (tensors[name].float() if name in DTYPES else tensors[name]).numpy().copy()

    assert holds(path, header[name], array)
    assert not holds(path, header[name], array.T)
    assert not holds(path, header[name], array.astype(np.int16))
    if array.size:
        array[-1, -1] += 1
        assert not holds(path, header[name], array)


def test_large_tensors_are_compared_by_samples(stored):
    path, header, tensors = stored
    array = tensors["F32"].numpy().copy()

    assert holds(path, header["F32"], array)
    array[0, 20] += 1
    assert holds(path, header["F32"], array)  # not among the samples
    for place in (0, -1):
        array[place, place] += 1
        assert not holds(path, header["F32"], array)
        array[place, place] -= 1
    assert not holds(path, header["F32"], array[::-1])


def test_an_unexpected_dtype_is_refused(stored):
    path, header, _ = stored
    with pytest.raises(ModelError, match="F8_E4M3"):
        values(path, replace(header["odd"], dtype="F8_E4M3"))
    assert not holds(path, replace(header["odd"], dtype="F8_E4M3"), np.zeros(3, np.uint8))


def test_arrays_survive_a_file(tmp_path):
    save_arrays({"b": np.arange(3), "a": np.ones((2, 2), np.float32)}, tmp_path / "x.safetensors")

    read = load_arrays(tmp_path / "x.safetensors")
    assert {name: value.tolist() for name, value in read.items()} == {"a": [[1, 1], [1, 1]], "b": [0, 1, 2]}
