"""Exports that several tests look at, made once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.export.builds import Export, export
from tests.models import add_sentence_transformers_files, make_model

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Two threads that wait for each other on busy cores make tiny models many times slower."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Export]:
    """Export of a tiny model of a family, by family and task. Embedders have sentence-transformers files."""
    made: dict[tuple[str, str], Export] = {}

    def make(family: str, task: str) -> Export:
        if (family, task) not in made:
            work = tmp_path_factory.mktemp(f"{family}-{task}")
            folder = make_model(family, task, work / "model", num_labels=3)
            if task == "sentence-embedding":
                add_sentence_transformers_files(folder)
            made[family, task] = export(folder, task, work)
        return made[family, task]

    return make
