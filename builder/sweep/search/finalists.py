"""The last decision: what looks best was measured once, and may have been lucky. So it is measured again, in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.sweep.objective import ordered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.sweep.load import Load
    from builder.sweep.objective import Ranked
    from builder.sweep.search.task import Found, Journey
    from builder.sweep.setting import Setting

MOST: Final = 3
ROUNDS: Final = 2
_NEAR: Final = 0.05  # of the best score: what is farther behind does not get lucky


def decide(journey: Journey, candidates: Sequence[tuple[Setting, Load]], why: str) -> Found:
    """Measures the candidates again, A B C then C B A, and ranks them before all others.

    Args:
        journey: so far.
        candidates: the best first; the first few count.
        why: the search ended.
    """
    chosen = list(candidates)[:MOST]
    for number in range(ROUNDS if len(chosen) > 1 or _unsure(journey, chosen) else 0):
        for place, (setting, load) in enumerate(chosen if number % 2 == 0 else reversed(chosen)):
            left = (ROUNDS - number) * len(chosen) - place - 1
            journey.take(setting, load, f"finalist, round {number + 1} of {ROUNDS}", left=left)
    first = ordered(one for setting, load in chosen if (one := journey.pooled(setting, load)))
    return journey.found(why, first)


def best_of(ranking: Sequence[Ranked]) -> list[tuple[Setting, Load]]:
    """Who may be a finalist: the surely feasible ones near the best; else the unsure ones, which more may make sure."""
    met = [one for one in ranking if one.verdict == "met"] or [one for one in ranking if one.verdict == "unsure"]
    top = max((one.score for one in met if one.score is not None), default=0.0)
    near = [one for one in met if one.score is not None and one.score >= top - _NEAR]
    return [(one.point.setting, one.point.load) for one in near]


def _unsure(journey: Journey, chosen: Sequence[tuple[Setting, Load]]) -> bool:
    found = [journey.pooled(setting, load) for setting, load in chosen]
    return any(one is not None and one.verdict == "unsure" for one in found)
