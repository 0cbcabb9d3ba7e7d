"""What a folder is held against: each way in which it may differ is told with its path."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from builder.core.digest import describe_folder
from builder.core.trees import differences

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from builder.artifacts import File


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, dict[str, File]]:
    folder = tmp_path / "made"
    (folder / "a" / "1").mkdir(parents=True)
    (folder / "a" / "config.pbtxt").write_text('name: "a"')
    (folder / "a" / "1" / "model.py").write_text("pass")
    return folder, describe_folder(folder)


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def link(path: Path) -> None:
    copy = path.parents[2] / "elsewhere"
    shutil.copy(path, copy)  # the same bytes
    path.unlink()
    path.symlink_to(copy)


def link_folder(path: Path) -> None:
    moved = path.parents[2] / "elsewhere"
    path.rename(moved)
    path.symlink_to(moved)


def test_an_equal_folder(made: tuple[Path, dict[str, File]]) -> None:
    assert differences(*made) == []
    assert made[1], "the control: there is something to differ"


@pytest.mark.parametrize(
    ("name", "meddle", "told"),
    [
        ("a/1/model.py", change, "has sha256 "),
        ("a/1/model.py", lambda path: path.write_text("passed"), "has 6 bytes, not 4"),
        ("a/1/model.py", os.unlink, "is missing"),
        ("a/1/more.py", lambda path: path.write_text(""), "does not belong there"),
        ("a/2", os.mkdir, "is an empty folder"),
        ("a/1/model.py", link, "is a symbolic link"),
        ("a/1", link_folder, "is a symbolic link"),
        ("a/1/link", lambda path: path.symlink_to("nowhere"), "is a symbolic link"),
        ("a/1/pipe", os.mkfifo, "is no regular file"),
    ],
)
def test_a_difference_is_told_with_its_path(
    made: tuple[Path, dict[str, File]], name: str, meddle: Callable[[Path], None], told: str
) -> None:
    folder, files = made
    meddle(folder / name)
    assert any(problem.startswith(f"{name}: {told}") for problem in differences(folder, files))


def test_what_is_no_folder(made: tuple[Path, dict[str, File]], tmp_path: Path) -> None:
    folder, files = made
    assert differences(folder / "a/config.pbtxt", files) == ["config.pbtxt: is no folder"]
    assert differences(tmp_path / "absent", files) == ["absent: is no folder"]
    (tmp_path / "link").symlink_to(folder)
    assert differences(tmp_path / "link", files) == ["link: is no folder"]


@pytest.mark.parametrize("name", ["../beside", "/etc/hostname", "a/../../beside"])
def test_a_manifest_of_files_elsewhere(made: tuple[Path, dict[str, File]], tmp_path: Path, name: str) -> None:
    folder, files = made
    (tmp_path / "beside").write_text("pass")
    assert f"{name}: leaves the folder" in differences(folder, {**files, name: files["a/1/model.py"]})
