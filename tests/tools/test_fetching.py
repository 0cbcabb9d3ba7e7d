"""Packages that fetch at their first use: who is told of, and who has seen to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.lint import Options, lint
from builder.tools import fetching
from tests.lint.hosting_cases import make, python

if TYPE_CHECKING:
    from pathlib import Path

LOADER = "import os\nos.environ['TIKTOKEN_CACHE_DIR'] = HERE\n"


def told(packages: list[str], text: str = "") -> list[str]:
    return [found.name for found in fetching.advice(packages, text)]


def test_known_packages_are_told_of_once() -> None:
    assert told(["idna", "NLTK", "Language_Tool.Python"]) == ["nltk", "language-tool-python"]
    assert told(["transformers", "sentence_transformers", "huggingface_hub"]) == ["sentence-transformers"]
    assert told(["nltkx", "numpy", "tokenizers", "pillow"]) == []


@pytest.mark.parametrize(("package", "text"), [(known.name, known.settled_by[0]) for known in fetching.KNOWN])
def test_a_file_that_has_seen_to_it_is_left_alone(package: str, text: str) -> None:
    assert told([package]) == [package]
    assert told([package], f"x = {text}") == []


def test_pipelines_of_spacy_are_packages() -> None:
    assert told(["spacy", "spacy-legacy"]) == ["spacy"]
    assert told(["spacy", "en_core_web_sm"]) == []


def test_lint_finds_them_in_a_repository(tmp_path: Path) -> None:
    vendored = {"1__vendor__tiktoken-0.9.0.dist-info__METADATA": "", "1__vendor__idna-3.10.dist-info__METADATA": ""}
    found = {}
    for name, code in {"bad": "", "good": LOADER}.items():
        (tmp_path / name).mkdir()
        files = python(**vendored, code=code + "class TritonPythonModel:\n    def execute(self, requests): ...\n")
        report = lint(make(files, tmp_path / name), Options())
        found[name] = [one for one in report.findings if one.rule == "P4"]
    assert [one.path.rpartition("vendor/")[2] for one in found["bad"]] == ["tiktoken-0.9.0.dist-info"]
    assert "TIKTOKEN_CACHE_DIR" in found["bad"][0].mend
    assert found["good"] == []
