from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.core.digest import describe_file
from builder.errors import ArchiveError, MachineError
from builder.package import collect, deliver, describe

if TYPE_CHECKING:
    from builder.package import Delivery
    from tests.package.conftest import Built


def hand_out(built: Built, folder: Path) -> Delivery:
    manifest = describe(
        built.recipe,
        "cpu",
        source=built.parts.source,
        repository=built.repository,
        archive=built.archive,
        reference=built.parts.reference,
    )
    return deliver(built.archive, built.parts.reference, manifest, folder)


def test_four_files_with_one_stem(built: Built, tmp_path: Path) -> None:
    delivered = hand_out(built, tmp_path / "new" / "dist")
    stem = built.archive.file.path.name.removesuffix(".tar.gz")
    assert sorted(path.name for path in (tmp_path / "new/dist").iterdir()) == [
        f"{stem}.expected.safetensors",
        f"{stem}.manifest.json",
        f"{stem}.samples.jsonl",
        f"{stem}.tar.gz",
    ]
    assert delivered.archive.file.path == tmp_path / "new/dist" / f"{stem}.tar.gz"
    assert describe_file(delivered.archive.file.path) == delivered.archive.file


def test_everybody_may_read_it(built: Built, tmp_path: Path) -> None:
    built.parts.reference.files["expected.safetensors"].path.chmod(0o600)
    hand_out(built, tmp_path)
    assert {path.stat().st_mode & 0o444 for path in tmp_path.iterdir()} == {0o444}


def test_what_was_delivered_is_found_again(built: Built, tmp_path: Path) -> None:
    delivered = hand_out(built, tmp_path)
    found = collect(delivered.archive.file.path)
    assert found.archive == delivered.archive
    assert found.manifest == delivered.manifest
    assert found.reference.files == delivered.reference.files
    assert (found.reference.metric, found.reference.controls) == ("cosine", ("wrong_pooling",))


def test_delivering_again_replaces(built: Built, tmp_path: Path) -> None:
    first = hand_out(built, tmp_path)
    first.reference.files["samples.jsonl"].path.unlink()
    first.reference.files["samples.jsonl"].path.write_text("mine")
    second = hand_out(built, tmp_path)
    file = second.reference.files["samples.jsonl"]
    assert describe_file(file.path) == file
    assert len(list(tmp_path.iterdir())) == 4


def test_another_file_system_gets_copies(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    delivered = hand_out(built, tmp_path)
    assert describe_file(delivered.archive.file.path) == delivered.archive.file
    assert not delivered.archive.file.path.samefile(built.archive.file.path)


def test_a_full_disk_leaves_no_manifest(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with pytest.raises(MachineError, match="no space left"):
        hand_out(built, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".tar.gz", ".manifest.json", ".samples.jsonl", ".expected.safetensors"])
def test_a_missing_file_is_named(built: Built, tmp_path: Path, suffix: str) -> None:
    path = hand_out(built, tmp_path).archive.file.path
    missing = path.with_name(path.name.removesuffix(".tar.gz") + suffix)
    missing.unlink()
    with pytest.raises(ArchiveError, match=missing.name) as caught:
        collect(path)
    assert "together" in caught.value.mend


def test_the_manifest_of_another_archive(built: Built, tmp_path: Path) -> None:
    delivered = hand_out(built, tmp_path)
    delivered.manifest_path.rename(tmp_path / "other.manifest.json")
    delivered.archive.file.path.rename(tmp_path / "other.tar.gz")
    with pytest.raises(ArchiveError, match=r"other\.manifest\.json: is the manifest of tiny-cpu-"):
        collect(tmp_path / "other.tar.gz")


def test_what_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"x\.zip: is no archive; the name of one ends with \.tar\.gz"):
        collect(tmp_path / "x.zip")
