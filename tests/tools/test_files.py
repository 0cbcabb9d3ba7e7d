from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from builder.core.digest import describe_folder, digest_tree
from builder.tools import files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tree/deep/er").mkdir(parents=True)
    (tmp_path / "tree/a").write_text("a")
    (tmp_path / "tree/deep/er/b").write_text("b")
    return tmp_path / "tree"


def test_files_are_linked(folder: Path, tmp_path: Path) -> None:
    tree = describe_folder(folder)
    made = files.materialise(tree, tmp_path / "made")
    assert digest_tree(describe_folder(made)) == digest_tree(tree)
    assert all((made / name).samefile(file.path) for name, file in tree.items())


@pytest.mark.parametrize("reason", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_files_are_copied_where_they_cannot_be_linked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    tree = describe_folder(folder)
    made = files.materialise(tree, tmp_path / "made")
    assert digest_tree(describe_folder(made)) == digest_tree(tree)
    assert not (made / "a").samefile(folder / "a")


def test_a_missing_file_is_an_error(folder: Path, tmp_path: Path) -> None:
    tree = describe_folder(folder)
    (folder / "a").unlink()
    with pytest.raises(FileNotFoundError):
        files.materialise(tree, tmp_path / "made")


def test_what_is_there_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made/a").write_text("mine")
    with pytest.raises(FileExistsError):
        files.materialise(describe_folder(folder), tmp_path / "made")
    assert (tmp_path / "made/a").read_text() == "mine"


def test_symbolic_links(folder: Path, tmp_path: Path) -> None:
    made = files.link({"x/y": folder / "a"}, tmp_path / "made")
    assert (made / "x/y").is_symlink()
    assert (made / "x/y").read_text() == "a"
