"""How a sweep decides what is measured next: ``guided`` (default), ``exhaustive``, ``random``.

Every search is a function of its task and of what it measured: with the same task, and the points of an interrupted
run given back by ``measure``, it takes the same way again and goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.errors import UserError

if TYPE_CHECKING:
    from builder.sweep.search.task import Found, Measure, Task, Told

NAMES: Final = ("guided", "exhaustive", "random")


def search(name: str, task: Task, measure: Measure, told: Told) -> Found:
    """Searches.

    Raises:
        UserError: there is no such search.
    """
    from builder.sweep.search import exhaustive, guided, random_

    known = {"guided": guided.search, "exhaustive": exhaustive.search, "random": random_.search}
    if name not in known:
        raise UserError(f"search {name!r} is not known", mend=f"one of {', '.join(NAMES)}")
    return known[name](task, measure, told)
