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

    Candidate = tuple[Setting, Load]

MOST: Final = 4
TIMES: Final = 4
"""How often each of them is measured in all."""

_NEAR: Final = 0.05  # of the best score: what is farther behind does not get lucky


def measure_again(journey: Journey, candidates: Sequence[Candidate]) -> bool:
    """One more measurement of each finalist that has too few, in turn; the other way round the next time.

    Args:
        journey: so far.
        candidates: the best first; the first few count.

    Returns:
        whether there was any.
    """
    chosen = list(candidates)[:MOST]
    taken = {one: _taken(journey, one) for one in chosen}
    open_ = [one for one in chosen if taken[one] < TIMES]
    if len(chosen) == 1 and not _is_unsure(journey, chosen[0]):
        return False  # there is nobody to be compared with
    turn = min((taken[one] for one in open_), default=0)
    left = sum(TIMES - taken[one] for one in open_)
    for place, (setting, load) in enumerate(open_ if turn % 2 else reversed(open_)):
        said = f"finalist, measurement {taken[setting, load] + 1} of {TIMES}"
        journey.take(setting, load, said, left=left - place - 1)
    return bool(open_)


def decide(journey: Journey, why: str) -> Found:
    """Measures the best of all as often as it takes, and ranks them before all others."""
    while measure_again(journey, candidates := best_of(journey.ranking())):
        pass
    return journey.found(why, ranked_first(journey, candidates))


def ranked_first(journey: Journey, candidates: Sequence[Candidate]) -> tuple[Ranked, ...]:
    """The finalists by what all of their measurements say."""
    return ordered(one for setting, load in candidates[:MOST] if (one := journey.pooled(setting, load)))


def best_of(ranking: Sequence[Ranked]) -> list[Candidate]:
    """Who may be a finalist: the surely feasible ones near the best; else the unsure ones, which more may make sure."""
    met = [one for one in ranking if one.verdict == "met"] or [one for one in ranking if one.verdict == "unsure"]
    top = max((one.score for one in met if one.score is not None), default=0.0)
    near = [one for one in met if one.score is not None and one.score >= top - _NEAR]
    return [(one.point.setting, one.point.load) for one in near]


def _taken(journey: Journey, candidate: Candidate) -> int:
    return sum((point.setting, point.load) == candidate for point in journey.points)


def _is_unsure(journey: Journey, candidate: Candidate) -> bool:
    found = journey.pooled(*candidate)
    return found is not None and found.verdict == "unsure"
