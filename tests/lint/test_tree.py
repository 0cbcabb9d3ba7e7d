from __future__ import annotations

import os

import pytest

from builder.errors import ArchiveError, MachineError
from builder.lint import Options, lint
from builder.lint.model import MODEL, REPOSITORY, survey
from builder.lint.tree import FILE, FOLDER, LINK, OTHER, FolderTree
from tests.lint.repositories import python, write
from tests.tiny_graphs import config

TEXT = config("python", {"A": "FP32 1"}, {"C": "FP32 1"})


def test_what_a_folder_holds(tmp_path):
    write(
        {"m/1/model.py": "x = 1\n", "m/config.pbtxt": TEXT, "m/2/": "", "m/there": "->1", "m/not": "->nowhere"},
        tmp_path,
    )
    write({"m/up": "->..", "m/1/file": "->model.py"}, tmp_path)
    os.mkfifo(tmp_path / "pipe")
    tree = FolderTree(tmp_path)
    kinds = {path: entry.kind for path, entry in tree.entries.items()}
    assert kinds["m/1/model.py"] == kinds["m/there/model.py"] == kinds["m/1/file"] == FILE
    assert kinds["m"] == kinds["m/2"] == kinds["m/there"] == kinds["m/up"] == FOLDER
    assert kinds["m/not"] == LINK
    assert kinds["pipe"] == OTHER
    assert not [path for path in kinds if path.startswith("m/up/")]  # it leads to a folder that holds it
    assert tree.entries["m/1/model.py"].size == 6
    assert tree.entries["m/there"].target == "1"
    assert tree.children("m") == ("1", "2", "config.pbtxt", "not", "there", "up")
    assert tree.is_folder("")
    assert tree.read_text("m/1/model.py") == "x = 1\n"
    assert tree.head("m/1/model.py", 3) == b"x ="


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(MachineError, match="No such file"):
        FolderTree(tmp_path / "none").entries  # noqa: B018
    write({"big": "x" * 11}, tmp_path)
    with pytest.raises(ArchiveError, match="big: has more than 10 bytes"):
        FolderTree(tmp_path).read_text("big", 10)
    with pytest.raises(ArchiveError):
        lint(tmp_path / "none", Options())


def test_a_repository_and_a_single_model(tmp_path):
    write(python("m", TEXT) | python("n", TEXT) | {"README": ""}, tmp_path)
    world = survey(FolderTree(tmp_path), Options())
    assert (world.layout, list(world.models)) == (REPOSITORY, ["m", "n"])
    assert world.models["m"].config.max_batch_size == 8
    world = survey(FolderTree(tmp_path / "m"), Options())
    assert (world.layout, list(world.models)) == (MODEL, ["m"])
    assert world.models["m"].config_path == "config.pbtxt"


@pytest.mark.parametrize(
    ("folders", "versions"),
    [
        (["1", "3", "2"], (1, 2, 3)),
        (["0", "01", "v1", "latest"], (0,)),  # 01 has a leading zero
        (["1a", "+2", "-3", " 4"], (-3, 1, 2, 4)),  # as std::stoll reads them
        (["warmup", "initial_state", "configs"], ()),
    ],
)
def test_versions(folders, versions, tmp_path):
    write({f"m/{folder}/": "" for folder in folders} | {"m/5": "a file"}, tmp_path)
    assert survey(FolderTree(tmp_path), Options()).models["m"].versions == versions


@pytest.mark.parametrize(
    ("policy", "loaded"),
    [
        ("", (4,)),
        ("version_policy { latest { num_versions: 2 } }", (2, 4)),
        ("version_policy { latest { num_versions: 9 } }", (1, 2, 4)),
        ("version_policy { latest { } }", ()),
        ("version_policy { all { } }", (1, 2, 4)),
        ("version_policy { specific { versions: [ 3, 1 ] } }", (1,)),
        ("version_policy { specific { versions: [ 3, 1, 3 ] } }", (1, 3)),  # a fault of the server's own
        ("version_policy { }", (4,)),
    ],
)
def test_loaded_versions(policy, loaded, tmp_path):
    write({f"m/{version}/": "" for version in (1, 2, 4)} | {"m/config.pbtxt": policy}, tmp_path)
    assert survey(FolderTree(tmp_path), Options()).models["m"].loaded_versions == loaded
