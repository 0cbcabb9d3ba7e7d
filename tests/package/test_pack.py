from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from builder.artifacts import Repository
from builder.core.digest import describe_file, describe_folder, digest_json, digest_tree
from builder.core.execute import Executor
from builder.core.store import Store
from builder.errors import InternalError, MachineError
from builder.package import Pack
from builder.tools import archive

if TYPE_CHECKING:
    from pathlib import Path

    from tests.package.conftest import Built


def test_the_archive_is_named_by_what_it_holds(built: Built) -> None:
    digest = digest_tree(built.repository.files)
    assert built.archive.name == f"tiny-cpu-{digest[:16]}.tar.gz"
    assert built.archive.tree_digest == digest
    assert built.archive.file == describe_file(built.archive.file.path)
    assert built.archive.unpacked_size == sum(file.size for file in built.repository.files.values())


def test_its_members_have_the_digest_of_its_name(built: Built) -> None:
    assert digest_tree(archive.read_members(built.archive.file.path)) == built.archive.tree_digest


def test_packing_again_gives_the_same_bytes(built: Built, tmp_path: Path) -> None:
    again = Executor(Store.at(tmp_path), "tiny").run(Pack("cpu"), built.repository)
    assert again.file.sha256 == built.archive.file.sha256
    other = Executor(Store.at(tmp_path / "other"), "tiny").run(Pack("other"), built.repository)
    assert other.name.startswith("tiny-other-")


def test_a_file_that_changed_is_not_published(built: Built, tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text("before")
    name = "tiny-tokenize/1/settings.json"
    repository = replace(built.repository, files={**built.repository.files, name: describe_file(path)})
    path.write_text("after!")
    with pytest.raises(MachineError, match="has changed while the build ran"):
        Executor(Store.at(tmp_path / "stages"), "tiny").run(Pack("cpu"), repository)
    assert not list((tmp_path / "stages").glob("records/*/*"))


def test_the_key(built: Built) -> None:
    other = replace(built.repository, files=dict(list(built.repository.files.items())[1:]))
    keys = [
        Pack("cpu").fingerprint(built.repository),
        Pack("gpu").fingerprint(built.repository),
        Pack("cpu").fingerprint(other),
    ]
    assert len({digest_json(key) for key in keys}) == 3


def test_bugs_are_caught(built: Built) -> None:
    with pytest.raises(InternalError, match="repository tiny is empty"):
        Pack("cpu").requires(replace(built.repository, files={}))
    with pytest.raises(InternalError, match="is not the archive of repository tiny"):
        Pack("cpu").ensures(built.repository, replace(built.archive, tree_digest="0" * 64))


@pytest.mark.parametrize("form", ["sagemaker", "sagemaker-mme"])
def test_a_format_is_told_in_the_archive_and_its_manifest(built: Built, tmp_path: Path, form: str) -> None:
    packed = Executor(Store.at(tmp_path), "tiny").run(Pack("cpu", form), built.repository)
    assert packed.format == form
    assert packed.file.sha256 == built.archive.file.sha256  # the tree of an ensemble is the same in all of them
    assert digest_json(Pack("cpu", form).fingerprint(built.repository)) != digest_json(
        Pack("cpu").fingerprint(built.repository)
    )


def test_what_a_format_rewrites_is_packed(tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    for name in ("outer", "inner"):
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(f'name: "{name}"\nplatform: "ensemble"\n')
        (folder / name / "1" / "build.json").write_text("{}")
    repository = Repository("outer", describe_folder(folder), {})
    packed = Executor(Store.at(tmp_path / "store"), "outer").run(Pack("cpu", "sagemaker-mme"), repository)
    archive.unpack(packed.file.path, tmp_path / "unpacked")
    assert "platform: 'ensemble'" in (tmp_path / "unpacked" / "inner" / "config.pbtxt").read_text()
    assert 'platform: "ensemble"' in (tmp_path / "unpacked" / "outer" / "config.pbtxt").read_text()
    assert digest_tree(archive.read_members(packed.file.path)) == packed.tree_digest
    assert packed.tree_digest != digest_tree(repository.files)
