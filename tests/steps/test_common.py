"""What the steps share, and what holds for all of them."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from builder.tools import templates
from tests.steps.kit import COMMON, Backend, load_step, request

if TYPE_CHECKING:
    from pathlib import Path

load_step("labels")
STEP = sys.modules[COMMON]
OWN_PACKAGES = {"tokenize": {"tokenizers"}, "image": {"PIL"}}  # what a kind finds in vendor/
KINDS = ("aggregate", "entities", "image", "labels", "python", "receive", "select", "spans", "tokenize")


@pytest.fixture(autouse=True)
def backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STEP, "pb_utils", Backend)


def test_every_step_is_tested_here() -> None:
    assert sorted(path.parent.name for path in templates.folder().glob("steps/*/model.py")) == list(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_code_of_python_3_10_that_needs_numpy_alone(kind: str) -> None:
    """What containers have: Python 3.10 or 3.12, and numpy. All else is vendored."""
    files = templates.step_files(kind)
    imported = set()
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
        imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    outside = {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names)
    outside -= {path.stem for path in files}
    assert outside == {"numpy", "triton_python_backend_utils"} | OWN_PACKAGES.get(kind, set())
    assert files[0].name == "model.py"


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2,), np.float32), "X has shape [2]; allowed: [n, -1, 2], n at least 1"),
        (np.zeros((1, 5, 3), np.float32), "X has shape [1, 5, 3]; allowed: [n, -1, 2], n at least 1"),
        (np.zeros((0, 5, 2), np.float32), "X has shape [0, 5, 2]; allowed: [n, -1, 2], n at least 1"),
        (np.array([[[0, 1]], [[np.nan, 1]]]), "X, row 1: holds NaN or infinity; allowed: finite numbers"),
        (np.array([[[0, -np.inf]], [[0, 1]]]), "X, row 0: holds NaN or infinity; allowed: finite numbers"),
    ],
)
def test_tensors_are_checked(array: np.ndarray, message: str) -> None:
    with pytest.raises(STEP.RefusedError) as caught:
        STEP.read(request(X=array), "X", (-1, 2))
    assert str(caught.value) == message


def test_numbers_that_are_none_can_be_let_through() -> None:
    array = np.array([[np.nan]])
    assert STEP.read_together(request(X=array), {"X": (1,)}, finite=False)["X"] is array
    with pytest.raises(STEP.RefusedError, match="holds NaN"):
        STEP.read_together(request(X=array), {"X": (1,)})


def test_a_good_tensor_and_a_missing_one() -> None:
    array = np.zeros((2, 7, 2), np.float32)
    assert STEP.read(request(X=array), "X", (-1, 2)) is array
    with pytest.raises(STEP.RefusedError, match=r"^Y is missing$"):
        STEP.read(request(X=array), "Y", (-1, 2))


def test_tensors_of_a_request_have_the_same_rows() -> None:
    one, two = np.zeros((1, 3)), np.zeros((2, 3))
    assert list(STEP.read_together(request(X=two, Y=two), {"X": (3,), "Y": (-1,)})) == ["X", "Y"]
    with pytest.raises(STEP.RefusedError, match=r"^X, Y must have as many rows as each other, got \[1, 2\]$"):
        STEP.read_together(request(X=one, Y=two), {"X": (3,), "Y": (-1,)})


def test_texts_there_and_back() -> None:
    column = STEP.to_column(["", "今日", "a\0b"])
    assert column.shape == (3, 1)
    assert STEP.to_texts(column, "TEXT") == ["", "今日", "a\0b"]
    with pytest.raises(STEP.RefusedError, match=r"^TEXT, row 1: byte 0xe9 at position 3 is not UTF-8$"):
        STEP.to_texts(np.array([[b"a"], [b"caf\xe9"]], dtype=object), "TEXT")


def test_errors_become_responses() -> None:
    refused = STEP.respond(STEP.attempt(STEP.read, {}, "X", (1,)))
    assert (refused.error.message, refused.error.code) == ("X is missing", Backend.TritonError.INVALID_ARG)
    broken = STEP.respond(STEP.attempt(lambda: {}["key"]))
    assert (broken.error.message, broken.error.code) == ("KeyError: 'key'", Backend.TritonError.INTERNAL)
    fine = STEP.respond({"X": np.ones(1)})
    assert fine.error is None
    assert fine.tensors == {"X": np.ones(1)}


def test_settings_of_a_later_version_are_refused(tmp_path: Path) -> None:
    for schema in (1, 2):
        (tmp_path / "settings.json").write_text(json.dumps({"schema": schema}))
        if schema == 1:
            assert STEP.load_settings(tmp_path) == {"schema": 1}
    with pytest.raises(ValueError, match="has schema 2; this step reads 1"):
        STEP.load_settings(tmp_path)


def test_vendored_packages_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor/only_vendored_here.py").touch()
    assert importlib.util.find_spec("only_vendored_here") is None
    STEP.use_vendored(tmp_path)
    assert sys.dont_write_bytecode
    importlib.invalidate_caches()
    assert importlib.util.find_spec("only_vendored_here") is not None
