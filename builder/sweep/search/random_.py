"""Settings by chance: what any search must beat at the same cost."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from builder.sweep.search.exhaustive import walk
from builder.sweep.search.task import Journey

if TYPE_CHECKING:
    from builder.sweep.search.task import Found, Measure, Task, Told


def search(task: Task, measure: Measure, told: Told) -> Found:
    """Measures the settings in an order that the seed decides, until the budget is spent."""
    order = list(task.settings)
    random.Random(task.seed).shuffle(order)  # noqa: S311 - not for secrets
    return walk(Journey(task, measure, told), tuple(order))
