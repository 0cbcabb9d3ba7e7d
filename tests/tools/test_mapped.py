"""Finding the file behind an array."""

import mmap

import numpy as np
import pytest

from builder.tools.mapped import MappedFiles


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a file with spaces.bin"
    path.write_bytes(bytes(range(256)) * 100)
    return path


def test_finds_file_and_offset(path):
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        array = np.frombuffer(mapped, np.uint8)[5000:5100]

        assert MappedFiles().place(array) == (str(path.resolve()), 5000)
        # Not a place in the file: strided, empty, or memory of the process itself.
        assert MappedFiles().place(array[::2]) is None
        assert MappedFiles().place(array[:0]) is None
        assert MappedFiles().place(array.copy()) is None
        del array
