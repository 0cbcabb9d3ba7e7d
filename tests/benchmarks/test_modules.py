"""A benchmark is run once in a while: what it imports must be there all the time."""

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS

FOLDER = Path(__file__).parents[2] / "benchmarks"
OURS = {"builder", "benchmarks", "tests"}


@pytest.mark.parametrize("module", sorted(set(BENCHMARKS.values())))
def test_it_can_be_imported(module):
    assert callable(importlib.import_module(module).run)


def missing(text):
    """What a program imports of ours, wherever it does, and is not there; peers' libraries need not be installed."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            wanted = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            wanted = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        for module, name in wanted:
            if module.partition(".")[0] in OURS and not is_there(module, name):
                yield f"{module}.{name}" if name else module


def is_there(module, name):
    try:
        found = importlib.import_module(module)
        return name is None or hasattr(found, name) or importlib.util.find_spec(f"{module}.{name}") is not None
    except ModuleNotFoundError as error:
        return error.name.partition(".")[0] not in OURS


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.stem)
def test_what_it_imports_of_ours_is_there(path):
    assert list(missing(path.read_text(encoding="utf-8"))) == []


def test_a_rename_is_seen():
    assert list(missing("def main():\n    from builder.artifacts import File, from_json\n")) == [
        "builder.artifacts.from_json"
    ]
    assert list(missing("import builder.nowhere\nfrom builder import core, elsewhere\n")) == [
        "builder.nowhere",
        "builder.elsewhere",
    ]
