"""Folders as nobody should have them: lint ends, says what it sees, and follows nothing out of bounds for ever."""

from __future__ import annotations

import os

import pytest

from builder.lint import lint
from tests.lint.hosting_cases import ANY, MULTI, SINGLE, make, onnx, python


def found(path, options, *rules) -> set[tuple[str, str]]:
    return {(one.rule, one.path) for one in lint(path, options).findings if one.rule in rules}


def test_devices_and_pipes_are_found_and_not_opened(tmp_path):
    path = make(python(), tmp_path)
    os.mkfifo(path / "m/1/pipe")
    os.mkfifo(path / "m/config.pbtxt.pipe")
    assert found(path, ANY, "A11") == {("A11", "m/1/pipe"), ("A11", "m/config.pbtxt.pipe")}


@pytest.mark.timeout(20)
def test_a_pipe_in_place_of_a_model_file_does_not_hang(tmp_path):
    path = make(onnx(), tmp_path)
    (path / "m/1/model.onnx").unlink()
    os.mkfifo(path / "m/1/model.onnx")
    assert found(path, ANY, "A18") == {("A18", "m/config.pbtxt")}


def test_links_that_go_round_end(tmp_path):
    path = make(python(), tmp_path)
    (path / "m/1/again").symlink_to(path / "m")
    (path / "m/1/self").symlink_to("self")
    (path / "round").symlink_to(".")
    assert lint(path, SINGLE).models >= 1


def test_hidden_folders_count_for_sagemaker(tmp_path):
    path = make(python() | {".git/HEAD": "x", ".ipynb_checkpoints/x": ""}, tmp_path)
    assert found(path, SINGLE, "A3") == {("A3", ".")}
    assert found(path, ANY, "A3") == set()
    assert found(path, ANY, "A13") == {("A13", ".git"), ("A13", ".ipynb_checkpoints")}


def test_a_model_that_is_a_link_is_not_seen_by_sagemaker(tmp_path):
    path = make(python(), tmp_path)
    (path / "m").rename(tmp_path / "elsewhere")
    (path / "m").symlink_to(tmp_path / "elsewhere")
    assert found(path, SINGLE, "A3", "A32") == {("A3", "."), ("A32", "m")}
    assert found(path, MULTI, "A10") == {("A10", "m")}


def test_an_empty_folder_and_names_of_all_kinds(tmp_path):
    (tmp_path / "empty").mkdir()
    assert lint(tmp_path / "empty", ANY).models == 0
    path = make({"ü\n\u2028/1/model.py": "", "a b/config.pbtxt": "naem: 1", "-rf/1/model.onnx": b"x"}, tmp_path)
    report = lint(path, SINGLE)
    assert report.models == 3
    assert report.errors
