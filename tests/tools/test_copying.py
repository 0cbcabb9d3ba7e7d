import hashlib
import os
from pathlib import Path

import pytest

from builder.tools import copying

MEBIBYTE = 1 << 20


def copied(source: Path, target: Path, large_bytes: int) -> tuple[str, int]:
    with source.open("rb", buffering=0) as read, target.open("wb", buffering=0) as write:
        return copying.copy_hashing(read.fileno(), write.fileno(), large_bytes)


@pytest.mark.parametrize("large_bytes", [0, 1 << 40])
@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 8 * MEBIBYTE, 17 * MEBIBYTE + 123])
def test_the_copy_has_the_bytes_and_the_digest(tmp_path, size, large_bytes):
    content = os.urandom(size)
    (tmp_path / "source").write_bytes(content)
    assert copied(tmp_path / "source", tmp_path / "target", large_bytes) == (hashlib.sha256(content).hexdigest(), size)
    assert (tmp_path / "target").read_bytes() == content


def test_a_large_one_goes_past_the_page_cache_but_for_its_end(tmp_path, monkeypatch):
    written = []

    def write_direct(target, block, real=copying._write_direct):
        done = real(target, block)
        written.append((len(block), done))
        return done

    monkeypatch.setattr(copying, "_write_direct", write_direct)
    (tmp_path / "source").write_bytes(bytes(9 * MEBIBYTE + 1))
    copied(tmp_path / "source", tmp_path / "small", 1 << 40)
    assert written == []
    copied(tmp_path / "source", tmp_path / "large", 0)
    assert [length for length, _ in written] == [8 * MEBIBYTE]


def test_where_that_cannot_be_the_page_cache_will_do(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(22, "Invalid argument")

    (tmp_path / "source").write_bytes(bytes(range(256)) * 40000)
    real = os.write
    refused = []

    def write(target, block):
        if copying.fcntl.fcntl(target, copying.fcntl.F_GETFL) & os.O_DIRECT:
            refused.append(len(block))
            refuse()
        return real(target, block)

    monkeypatch.setattr(copying.os, "write", write)
    copied(tmp_path / "source", tmp_path / "target", 0)
    assert len(refused) == 1, "it is tried once"
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()


def test_a_full_disk_is_said():
    with (
        Path("/dev/zero").open("rb", buffering=0) as read,
        Path("/dev/full").open("wb", buffering=0) as write,
        pytest.raises(OSError, match="No space left"),
    ):
        copying.copy_hashing(read.fileno(), write.fileno())
