"""Formats that are not packed: a folder is handed out, found again, signed, and refused when it was changed."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from builder import inspecting, proving, serving
from builder.artifacts import Folder
from builder.core.digest import describe_folder, digest_tree
from builder.core.execute import Executor
from builder.core.store import Store
from builder.errors import ArchiveError, DamagedError, InternalError
from builder.package import Pack, check_trust, collect
from builder.package.attest import Attest, AttestInputs
from builder.package.bill import about
from builder.package.provenance import TREE
from builder.tools import files as linked
from builder.verify import check_files, from_packed
from builder.verify.measure import unpack
from tests.package.conftest import Made, beside
from tests.package.test_seal import signers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from builder.package import Delivery
    from tests.package.conftest import Built
    from tests.package.test_seal import Signers

__all__ = ["signers"]

MODEL = "tiny-tokenize/1/model.py"


@pytest.fixture(scope="session")
def folder(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """What a build of the format s3-prefix has at hand when it delivers."""
    store = Store.at(tmp_path_factory.mktemp("folder") / "store")
    packed = Executor(store, "tiny").run(Pack("cpu", "s3-prefix"), built.repository)
    made = replace(built, archive=packed)
    manifest = made.described()
    return Made(made, manifest, Executor(store).run(Attest(), AttestInputs(manifest, built.repository)).files)


@pytest.fixture(scope="session")
def handed_out(folder: Made, tmp_path_factory: pytest.TempPathFactory) -> Delivery:
    """Only to be looked at."""
    return folder.hand_out(tmp_path_factory.mktemp("handed-out") / "dist")


@pytest.fixture
def delivered(handed_out: Delivery, tmp_path: Path) -> Delivery:
    """A copy with all that lies beside it, to be damaged."""
    shutil.copytree(handed_out.path.parent, tmp_path / "dist")
    return collect(tmp_path / "dist" / handed_out.path.name)


def test_its_root_is_the_repository(built: Built, handed_out: Delivery) -> None:
    delivered, digest = handed_out, digest_tree(built.repository.files)
    assert delivered.path.name == f"tiny-cpu-{digest[:16]}"
    assert digest_tree(describe_folder(delivered.path)) == digest
    assert all(any(path.iterdir()) for path in delivered.path.rglob("*") if path.is_dir())
    assert {path.stat().st_mode & 0o777 for path in delivered.path.rglob("*")} == {0o644, 0o755}
    stem = delivered.path.name
    assert sorted(path.name.removeprefix(stem) for path in delivered.path.parent.iterdir()) == [
        *("", ".expected.safetensors", ".manifest.json", ".provenance.json", ".samples.jsonl", ".sbom.cdx.json")
    ]


def test_the_manifest_says_what_it_is(delivered: Delivery, built: Built) -> None:
    facts = delivered.manifest.archive
    assert (facts.format, facts.file, facts.is_folder) == ("s3-prefix", delivered.path.name, True)
    assert facts.sha256 == facts.tree_digest == digest_tree(describe_folder(delivered.path))
    assert facts.size == facts.unpacked_size == sum(file.stat().st_size for file in all_files(delivered.path))
    assert facts.members.keys() == built.repository.files.keys()
    assert delivered.manifest.environment["SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"] == "tiny"
    assert serving._manifest_of(delivered.path) == delivered.manifest
    found = inspecting.inspect(delivered.path)
    assert found.kind == "repository"
    assert found.beside is not None
    assert found.beside.provenance["subject"] == [{"name": facts.file, "digest": {TREE: facts.tree_digest}}]
    bill = inspecting_bill(delivered.path)
    assert "hashes" not in bill["metadata"]["component"], "there are no bytes of the whole that have a sha256"
    assert about(bill) == facts.tree_digest


def all_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def inspecting_bill(folder: Path) -> dict:
    from builder.package.attested import read_attested

    return read_attested(beside(folder, ".sbom.cdx.json"))


def test_it_is_found_again(handed_out: Delivery, delivered: Delivery, monkeypatch: pytest.MonkeyPatch) -> None:
    again = collect(handed_out.path)
    assert (again.archive, again.manifest, again.path) == (handed_out.archive, handed_out.manifest, handed_out.path)
    found = delivered
    facts = proving.facts_of(found)
    check_files(facts)
    assert unpack(facts, delivered.path / "unused") == delivered.path, "it is served where it lies"
    monkeypatch.chdir(delivered.path)
    assert collect(type(delivered.path)()).path == delivered.path


def test_in_a_build_it_is_served_from_the_store(folder: Made, delivered: Delivery, tmp_path: Path) -> None:
    facts = replace(proving.facts_of(delivered), **from_packed(folder.built.archive))
    check_files(facts)
    repository = unpack(facts, tmp_path / "repository")
    assert digest_tree(describe_folder(repository)) == facts.tree_digest
    with pytest.raises(ArchiveError, match="holds the tree"):
        unpack(replace(facts, tree_digest="0" * 64), tmp_path / "other")


def test_the_users_copy_is_nothing_to_the_store(folder: Made, tmp_path: Path) -> None:
    delivered, stored = folder.hand_out(tmp_path / "dist"), folder.built.archive.files
    for name, file in stored.items():
        assert (delivered.path / name).stat().st_ino != file.path.stat().st_ino
    (delivered.path / MODEL).write_text("mine")
    assert stored[MODEL].path.read_text() != "mine"


def test_an_equal_one_is_left(folder: Made, tmp_path: Path) -> None:
    first = folder.hand_out(tmp_path / "dist")
    inodes = {path: path.stat().st_ino for path in (tmp_path / "dist").rglob("*")}
    assert folder.hand_out(tmp_path / "dist") == first
    shutil.rmtree(tmp_path / "stats")  # nothing is known by stat any more: it is read
    again = folder.hand_out(tmp_path / "dist")
    assert {path: path.stat().st_ino for path in again.path.rglob("*")}.items() <= inodes.items()


def change(folder: Path) -> None:
    (folder / MODEL).write_bytes((folder / MODEL).read_bytes()[:-1] + b"?")


def link(folder: Path) -> None:
    (folder / MODEL).rename(folder.parent / "elsewhere")  # the same bytes
    (folder / MODEL).symlink_to(folder.parent / "elsewhere")


MEDDLINGS = {
    "changed": (change, rf"{MODEL}: has sha256 "),
    "removed": (lambda folder: (folder / MODEL).unlink(), rf"{MODEL}: is missing"),
    "added": (lambda folder: (folder / "tiny/1/more").touch(), "tiny/1/more:? does not belong there"),
    "empty folder": (lambda folder: (folder / "tiny/2").mkdir(), "tiny/2:? is an empty folder"),
    "symlink": (link, rf"{MODEL}:? is a symbolic link"),
    "pipe": (lambda folder: os.mkfifo(folder / "tiny/pipe"), "tiny/pipe:? is no regular file"),
}
meddled = pytest.mark.parametrize(("meddle", "told"), MEDDLINGS.values(), ids=MEDDLINGS)


@meddled
def test_one_that_was_changed_is_refused_with_the_path(
    delivered: Delivery, meddle: Callable[[Path], None], told: str
) -> None:
    meddle(delivered.path)
    with pytest.raises(ArchiveError, match=told):
        proving.verify(delivered.path)


@pytest.mark.parametrize(("meddle", "told"), [MEDDLINGS[name] for name in ("changed", "added", "symlink")])
def test_one_that_was_changed_is_made_again(
    folder: Made, delivered: Delivery, meddle: Callable[[Path], None], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    meddle(delivered.path)
    again = folder.hand_out(delivered.path.parent)
    check_files(proving.facts_of(again))
    assert f"{delivered.path.name}: was changed, and is made again: " in caplog.text
    assert again.manifest_path.is_file()


@pytest.mark.parametrize(("meddle", "told"), [MEDDLINGS[name] for name in ("changed", "added", "symlink")])
def test_one_that_was_signed(
    folder: Made, signers: Signers, tmp_path: Path, meddle: Callable[[Path], None], told: str
) -> None:
    signed = folder.hand_out(tmp_path / "dist", signers.key).path
    assert check_trust(signed, signers.public).startswith("ED25519 SHA256:")
    check = ["sha256sum", "--check", "--strict", "--quiet", f"{signed.name}.sha256sums"]
    assert subprocess.run(check, cwd=signed.parent, capture_output=True).returncode == 0, "each file has a line"
    assert f"{signed.name}/{MODEL}" in beside(signed, ".sha256sums").read_text()
    meddle(signed)
    with pytest.raises(ArchiveError, match=rf"{MODEL}: (is not what|was signed, and)|{told}"):
        check_trust(signed, signers.public)


def test_a_damaged_file_is_not_delivered(folder: Made, tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    path.write_text("other")
    packed = folder.built.archive
    for lacking in (False, True):
        if lacking:
            path.unlink()
        files = {**packed.files, MODEL: replace(packed.files[MODEL], path=path)}
        broken = replace(folder, built=replace(folder.built, archive=replace(packed, files=files)))
        with pytest.raises(DamagedError, match="is gone" if lacking else "is not what it was"):
            broken.hand_out(tmp_path / "dist")
        assert list((tmp_path / "dist").iterdir()) == []


def test_what_is_not_the_folder_of_the_manifest(folder: Made, delivered: Delivery, made: Made, tmp_path: Path) -> None:
    manifest = delivered.manifest_path
    manifest.rename(manifest.with_name("other.manifest.json"))
    with pytest.raises(ArchiveError, match="no manifest lies beside it"):
        collect(delivered.path)
    delivered.path.rename(tmp_path / "dist/other")
    with pytest.raises(ArchiveError, match=r"other\.manifest\.json: is the manifest of tiny-cpu-"):
        collect(tmp_path / "dist/other")
    packed = made.hand_out(tmp_path / "packed")
    packed.path.unlink()
    packed.path.mkdir()
    with pytest.raises(ArchiveError, match=r"is a folder; .* is about an archive"):
        collect(packed.path)


def test_members_that_are_not_the_tree(delivered: Delivery) -> None:
    text = delivered.manifest_path.read_text()
    size = delivered.archive.files[MODEL].size
    delivered.manifest_path.write_text(text.replace(f'"size": {size}', f'"size": {size + 1}'))
    with pytest.raises(ArchiveError, match="its members are not the tree that it states"):
        collect(delivered.path)


def test_a_format_of_a_later_tritonsmith(delivered: Delivery) -> None:
    text = delivered.manifest_path.read_text()
    delivered.manifest_path.write_text(text.replace('"s3-prefix"', '"zip"'))
    with pytest.raises(ArchiveError, match="format 'zip' is not known; known: triton, "):
        collect(delivered.path)


def test_the_stage(built: Built, folder: Made) -> None:
    stage, packed = Pack("cpu", "s3-prefix"), folder.built.archive
    assert isinstance(packed, Folder)
    assert "compression" not in stage.fingerprint(built.repository)
    stage.ensures(built.repository, packed)
    lacking = {name: file for name, file in packed.files.items() if name != MODEL}
    with pytest.raises(InternalError, match="is not the archive of repository tiny"):
        stage.ensures(built.repository, replace(packed, files=lacking))


def test_it_may_be_moved_with_what_lies_beside_it(delivered: Delivery, tmp_path: Path) -> None:
    shutil.copytree(delivered.path.parent, tmp_path / "got")
    found = collect(tmp_path / "got" / delivered.path.name)
    check_files(proving.facts_of(found))
    linked.link({name: file.path for name, file in found.archive.files.items()}, tmp_path / "links")
    shutil.rmtree(found.path)
    (tmp_path / "links").rename(found.path)
    with pytest.raises(ArchiveError, match="is a symbolic link"):
        check_files(proving.facts_of(found))
