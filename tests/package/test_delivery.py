from __future__ import annotations

import errno
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from builder.core.digest import describe_file
from builder.core.stats import Stats
from builder.errors import ArchiveError, DamagedError, MachineError
from builder.package import collect, deliver

if TYPE_CHECKING:
    from pathlib import Path

    from builder.package import Delivery
    from tests.package.conftest import Built


def hand_out(built: Built, folder: Path) -> Delivery:
    manifest = built.described()
    return deliver(built.archive, built.parts.reference, manifest, folder, Stats(folder.parent / "stats"))


def test_four_files_with_one_stem(built: Built, tmp_path: Path) -> None:
    delivered = hand_out(built, tmp_path / "new" / "dist")
    stem = built.archive.name.removesuffix(".tar.gz")
    assert sorted(path.name for path in (tmp_path / "new/dist").iterdir()) == [
        f"{stem}.expected.safetensors",
        f"{stem}.manifest.json",
        f"{stem}.samples.jsonl",
        f"{stem}.tar.gz",
    ]
    assert delivered.archive.file.path == tmp_path / "new/dist" / f"{stem}.tar.gz"
    assert describe_file(delivered.archive.file.path) == delivered.archive.file


def test_the_expected_texts_of_a_pipeline_lie_beside_the_archive_too(built: Built, tmp_path: Path) -> None:
    texts = tmp_path / "expected.json"
    texts.write_text('{"LABEL": [["sad"]]}')
    files = {**built.parts.reference.files, "expected.json": describe_file(texts)}
    reference = replace(built.parts.reference, metric="pipeline", files=files)
    piped = replace(built, parts=replace(built.parts, reference=reference))
    delivered = hand_out(piped, tmp_path / "dist")
    assert delivered.manifest.gates.tolerances == {"max_difference": 1e-4, "text_agreement": 1.0}
    found = collect(delivered.archive.file.path)
    assert found.reference.files == delivered.reference.files
    beside = found.reference.files["expected.json"].path
    assert (beside.name.endswith(".expected.json"), beside.read_text()) == (True, texts.read_text())
    beside.unlink()
    with pytest.raises(ArchiveError, match=r"expected\.json: no such file"):
        collect(delivered.archive.file.path)


def test_they_are_the_users_own_copies(built: Built, tmp_path: Path) -> None:
    delivered = hand_out(built, tmp_path / "dist")
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "dist").iterdir()} == {0o644}
    delivered.archive.file.path.write_bytes(b"mine")
    assert describe_file(built.archive.file.path) == built.archive.file, "what the user writes is not in the store"


def test_what_was_delivered_is_found_again(built: Built, tmp_path: Path) -> None:
    delivered = hand_out(built, tmp_path)
    found = collect(delivered.archive.file.path)
    assert found.archive == delivered.archive
    assert found.manifest == delivered.manifest
    assert found.reference.files == delivered.reference.files
    assert (found.reference.metric, found.reference.controls) == ("cosine", ("wrong_pooling",))


def test_delivering_again_replaces_what_was_changed_and_leaves_the_rest(built: Built, tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    first = hand_out(built, dist)
    inodes = {path.name: path.stat().st_ino for path in dist.iterdir()}
    samples = first.reference.files["samples.jsonl"].path
    samples.write_bytes(bytes(samples.stat().st_size))
    second = hand_out(built, dist)
    assert describe_file(samples) == second.reference.files["samples.jsonl"]
    assert second.manifest_path.is_file()
    kept = {path.name for path in dist.iterdir() if path.stat().st_ino == inodes[path.name]}
    assert kept >= inodes.keys() - {samples.name, second.manifest_path.name}
    assert samples.name not in kept
    hand_out(built, dist)
    assert kept <= {path.name for path in dist.iterdir() if path.stat().st_ino == inodes[path.name]}


def test_a_damaged_file_is_not_delivered(built: Built, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(built.archive.file.path.read_bytes()[:-1] + b"?")
    archive = replace(built.archive, file=replace(built.archive.file, path=damaged))
    with pytest.raises(DamagedError, match="is not what it was"):
        hand_out(replace(built, archive=archive), tmp_path / "dist")
    damaged.unlink()
    with pytest.raises(DamagedError, match="is gone"):
        hand_out(replace(built, archive=archive), tmp_path / "dist")
    assert list((tmp_path / "dist").iterdir()) == []


def test_a_full_disk_leaves_no_manifest(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(MachineError, match="no space left"):
        hand_out(built, tmp_path / "dist")
    assert list((tmp_path / "dist").iterdir()) == []


def test_a_replacement_that_fails_leaves_no_manifest(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hand_out(built, tmp_path / "dist")
    first.reference.files["expected.safetensors"].path.write_bytes(b"other")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(MachineError, match="no space left"):
        hand_out(built, tmp_path / "dist")
    assert first.archive.file.path.is_file()
    assert not first.manifest_path.exists(), "it would vouch for files of another build"


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
