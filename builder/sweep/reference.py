"""The subject as it is: what a sweep's winner is held against, and gives way to where it is no better."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from builder.sweep.objective import ORDER, SAME
from builder.sweep.search.finalists import measure_again
from builder.sweep.setting import Setting

if TYPE_CHECKING:
    from builder.sweep.objective import Ranked
    from builder.sweep.search.task import Found, Journey

AS_IT_IS: Final = "as it is"
"""Why the subject without changes was measured."""

_NEAR: Final = 0.05
"""Of the winner's score: what is farther behind after one measurement is not measured again."""


def held_against(found: Found, journey: Journey, *, closely: bool = True) -> tuple[Found, Ranked | None]:
    """Measures the subject without changes, under the load of the winner.

    Where that comes near the winner, both are measured as often as finalists are, in turn. A winner that is better by
    no more than the noise changes nothing that is worth a change: then the subject as it is has won.

    Args:
        found: what the search found.
        journey: begins with the points of the search.
        closely: false: one measurement has to do.

    Returns:
        what was found, with that; and the subject as it is. None: there is no winner to hold against it.
    """
    winner = found.winner
    if winner is None:
        return found, None
    if not winner.point.setting.values:
        return found, winner
    load = winner.point.load
    rivals = [(Setting(), load), (winner.point.setting, load)]
    journey.take(*rivals[0], AS_IT_IS)
    if closely and _near(journey.pooled(*rivals[0]), winner):
        while not journey.over and measure_again(journey, rivals):
            pass
    own, again = journey.pooled(*rivals[0]), journey.pooled(*rivals[1]) or winner
    others = [one for one in found.ranking if one is not winner]
    first = [own, again] if own is not None and _as_good(own, again) else [again]
    ranking = sorted((*first, *others), key=lambda one: ORDER[one.verdict])
    return replace(found, points=tuple(journey.points), ranking=tuple(ranking)), own


def _near(own: Ranked | None, winner: Ranked) -> bool:
    if own is None or own.score is None or winner.score is None:
        return False
    return own.verdict != "missed" and own.score >= winner.score - _NEAR


def _as_good(own: Ranked, winner: Ranked) -> bool:
    if own.score is None or winner.score is None or own.verdict != "met":
        return False
    return winner.verdict != "met" or own.score >= winner.score - SAME
