"""What the command line asks of every benchmark."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """``rounds`` None: each benchmark's own number. ``quick``: a smoke run whose figures mean nothing."""

    rounds: int | None = None
    quick: bool = False
