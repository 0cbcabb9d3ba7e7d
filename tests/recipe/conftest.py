"""A recipe file to begin with, and what changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.errors import RecipeError
from builder.recipe import Recipe, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MINIMAL = """\
schema_version: 1
name: tiny
source: {path: model}
task: sentence-embedding
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a recipe: the minimal one and more lines, or bytes as they are."""

    def write(more: str | bytes = "", *, base: str = MINIMAL) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_bytes(more if isinstance(more, bytes) else (base + more).encode())
        return path

    return write


@pytest.fixture
def good(write: Callable[..., Path]) -> Callable[..., Recipe]:
    """Loads the minimal recipe and more lines."""
    return lambda more="", *overrides, **options: load(write(more, **options), overrides)


@pytest.fixture
def bad(write: Callable[..., Path], tmp_path: Path) -> Callable[..., list[str]]:
    """The lines of the refusal, without the folder: ``recipe.yaml:5:1: …``."""

    def bad(more: str | bytes = "", *overrides: str, **options: str) -> list[str]:
        with pytest.raises(RecipeError) as caught:
            load(write(more, **options), overrides)
        assert caught.value.exit_code == 2
        return str(caught.value).replace(f"{tmp_path}/", "").split("\n")

    return bad
