"""Where benchmarks find and put things."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from builder.core.workspace import workspace
from builder.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

RECIPE = Path(__file__).parent.parent / "recipes" / "minilm-embedder.yaml"


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on the disk that builds use, removed at the end; what a killed run left, the next one removes."""
    with workspace(settings().cache) as folder:
        yield folder
