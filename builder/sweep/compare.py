"""Whether one setting is better than another, from points of both that were measured in turn.

Pure, like :mod:`builder.sweep.statistics`. The points come in the :func:`order` that this module gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from builder.errors import InternalError
from builder.sweep.point import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.artifacts import Json
    from builder.sweep.point import Point

LEVEL: Final = 0.05
"""Of a verdict: how often a setting may be called better or worse than itself."""
TESTED: Final = 0.01
"""The level that the pairs are tested at. They are not as independent as the test takes them to be: one neighbour
disturbs several in a row. At 3 % (six pairs that all agree), a server on a shared machine was called better or worse
than itself in 3 of 40 verdicts of the self-test."""
PAIRS: Final = 8
"""Of a verdict: the least number that can reach TESTED (2 / 2**8 = 0.8 %); more cost more."""
SMALLEST: Final = 0.03
"""Of a verdict: the difference that matters. One setting, measured three times on a quiet machine, varies by 1.5 %."""
HIDDEN: Final = 0.15
"""Of the verdict *same*: a difference of this size would have been seen. Where it could hide, it is *unstable*."""

Kind = Literal["better", "worse", "same", "unstable"]

_HIGHER_IS_BETTER: Final = frozenset({"throughput"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """How B compares with A in one figure.

    Args:
        kind: better, worse, same: B, beside A; unstable: nobody can tell.
        figure: which figure was compared.
        ratio: of B to A, with its interval; None where too few pairs were usable.
        p_value: how likely so clear an order of the pairs is, were there no difference.
        pairs: how many were compared.
        reason: in words.
        broken: the side, ``a`` or ``b``, that failed or was refused: nothing was compared, and the reason is its own.
            Empty: neither did.
    """

    kind: Kind
    figure: str
    ratio: Interval | None = None
    p_value: float | None = None
    pairs: int = 0
    reason: str = ""
    broken: Literal["", "a", "b"] = ""


def order(pairs: int = PAIRS) -> str:
    """In which order A and B are measured: ``abbaabba…``.

    Each pair is the other way round, so that a drift of the machine takes from A in one pair what it gives in the next.
    """
    return "".join("ab" if pair % 2 == 0 else "ba" for pair in range(pairs))


def verdict(
    a: Sequence[Point], b: Sequence[Point], figure: str, *, level: float = TESTED, smallest: float = SMALLEST
) -> Verdict:
    """Whether B is better than A, from pairs that were measured one right after the other, in :func:`order`.

    Wilcoxon's signed-rank test of the pairs' log ratios, exact; the ratio is Hodges and Lehmann's estimate with the
    interval that belongs to the test (Hollander and Wolfe, *Nonparametric Statistical Methods*, chapter 3). It asks for
    no distribution: one pair that something disturbed, however much, makes no verdict; it may cost one.

    Args:
        a: points of one setting.
        b: points of the other: the n-th was measured beside the n-th of A.
        figure: see :meth:`builder.sweep.point.Point.figure`. Of throughput more is better, of all others less.
        level: how often equal settings would be called better or worse, were the pairs independent.
        smallest: the least difference that matters, as a share.
    """
    if len(a) != len(b):
        raise InternalError(f"{len(a)} points cannot be paired with {len(b)}")
    if why := broken(a):
        return Verdict("unstable", figure, reason=why, broken="a")
    if why := broken(b):
        return Verdict("unstable", figure, reason=why, broken="b")
    usable = [(x, y) for x, y in zip(a, b, strict=True) if x.status == y.status == "stable"]
    return compare([(x.figure(figure), y.figure(figure)) for x, y in usable], figure, level=level, smallest=smallest)


def broken(points: Sequence[Point]) -> str:
    """Why one side is nothing to compare with: what the first of its points says that failed or was refused.

    Empty: all could be measured. A point that is only unstable says nothing against its setting.
    """
    return next((f"{one.status}: {one.reason}" for one in points if one.status in {"failed", "refused"}), "")


def compare(
    pairs: Sequence[tuple[float | None, float | None]],
    figure: str,
    *,
    level: float = TESTED,
    smallest: float = SMALLEST,
) -> Verdict:
    """The verdict on pairs of figures of A and B; see :func:`verdict`."""
    import numpy as np

    ratios = np.log([y / x for x, y in pairs if x and y])
    count = len(ratios)
    if not count or 2 / 2**count > level:
        return Verdict("unstable", figure, pairs=count, reason=f"{count} usable pairs are too few to tell")
    first, second = np.triu_indices(count)
    walsh = np.sort((ratios[first] + ratios[second]) / 2)  # their signs count as the signed ranks do
    frequencies = _rank_sums(count)
    least_sum = int(min((walsh > 0).sum(), (walsh < 0).sum()))
    p_value = float(min(1.0, 2 * frequencies[: least_sum + 1].sum()))
    outside = int(np.searchsorted(np.cumsum(frequencies), LEVEL / 2, side="right"))  # Walsh averages on either side
    estimate = float(np.median(walsh))
    ratio = Interval(*(float(np.exp(x)) for x in (estimate, walsh[max(0, outside - 1)], walsh[-max(1, outside)])))
    kind, reason = _judged(ratio, figure, significant=p_value <= level, smallest=smallest)
    return Verdict(kind, figure, ratio, p_value, count, reason)


def _judged(ratio: Interval, figure: str, *, significant: bool, smallest: float) -> tuple[Kind, str]:
    said = f"{ratio.value - 1:+.1%} ({ratio.low - 1:+.1%} to {ratio.high - 1:+.1%})"
    if significant and abs(ratio.value - 1) >= smallest:
        more = (ratio.value > 1) == (figure in _HIGHER_IS_BETTER)
        return "better" if more else "worse", said
    if max(ratio.high, 1 / ratio.low) - 1 > HIDDEN:
        return "unstable", f"{said}: a difference of {HIDDEN:.0%} could hide in it"
    return "same", f"{said}: less than {smallest:.0%}" if significant else f"{said}: nothing to tell from chance"


def _rank_sums(count: int) -> Json:
    """How likely each sum of signed ranks is, from 0, where signs are chance: of ``count`` values."""
    import numpy as np

    ways = np.zeros(count * (count + 1) // 2 + 1)
    ways[0] = 1.0
    for rank in range(1, count + 1):
        ways[rank:] += ways[:-rank].copy()
    return ways / 2.0**count
