"""Whether the sweeps of this machine can be believed: a setting against itself, again and again.

Whoever calls a setting better than itself more often than the stated level, finds winners that are none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.sweep import compare

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.artifacts import Json
    from builder.sweep.compare import Verdict
    from builder.sweep.point import Point

TIMES: Final = 20
FIGURES: Final = ("throughput", "p99_ms")


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What came of it: verdicts by figure.

    ``unstable`` verdicts are no mistakes, but a test in which nothing was compared proves nothing.
    """

    verdicts: dict[str, tuple[Verdict, ...]]
    level: float

    def wrong(self, figure: str) -> int:
        """How often the setting was called better or worse than itself."""
        return sum(one.kind in {"better", "worse"} for one in self.verdicts[figure])

    def allowed(self, figure: str) -> int:
        """How often it may be."""
        return int(self.level * len(self.verdicts[figure]))

    @property
    def passed(self) -> bool:
        """Whether no figure was wrong more often than the level, and most verdicts on the throughput say something.

        Those on a p99 may well be unstable: a point of a second has one request beyond it.
        """
        found = self.verdicts[FIGURES[0]]
        enough = 2 * sum(one.kind != "unstable" for one in found) > len(found)
        return enough and all(self.wrong(figure) <= self.allowed(figure) for figure in self.verdicts)

    def as_json(self) -> dict[str, Json]:
        """For ``--json``."""
        from builder.core.codec import to_json

        return {
            "passed": self.passed,
            "level": self.level,
            "wrong": {figure: self.wrong(figure) for figure in self.verdicts},
            "verdicts": {figure: [to_json(one) for one in found] for figure, found in self.verdicts.items()},
        }


def self_test(
    measure: Callable[[], Point],
    told: Callable[[int, int, dict[str, Verdict]], None] = lambda *_: None,
    *,
    times: int = TIMES,
    level: float = compare.LEVEL,
) -> SelfTest:
    """Compares what ``measure`` measures with itself, interleaved as real comparisons are.

    Args:
        measure: takes one point; always of the same setting under the same load.
        told: called after each comparison: its number, of how many, and the verdicts by figure.
        times: how many comparisons.
        level: how often it may be called better or worse.
    """
    found: dict[str, list[Verdict]] = {figure: [] for figure in FIGURES}
    for number in range(times):
        points = interleaved(measure, measure)
        verdicts = {figure: compare.verdict(*points, figure) for figure in FIGURES}
        for figure, one in verdicts.items():
            found[figure].append(one)
        told(number + 1, times, verdicts)
    return SelfTest({figure: tuple(all_of) for figure, all_of in found.items()}, level)


def interleaved(
    a: Callable[[], Point], b: Callable[[], Point], pairs: int = compare.PAIRS
) -> tuple[list[Point], list[Point]]:
    """Points of A and of B, measured in turn: the n-th of each belong together.

    Pairs with a point that is not stable do not count: they are measured again, until there are so many that do, or
    there could be no more in twice as many. A pair with a point that failed or was refused is the last one: see
    :func:`.compare.broken`.
    """
    made: dict[str, list[Point]] = {"a": [], "b": []}
    usable, order = 0, iter(compare.order(2 * pairs))
    for left in range(2 * pairs, 0, -1):
        if usable == pairs or usable + left < pairs:
            break
        for name in (next(order), next(order)):
            made[name].append(a() if name == "a" else b())
        if compare.broken([made["a"][-1], made["b"][-1]]):
            break
        usable += made["a"][-1].status == made["b"][-1].status == "stable"
    return made["a"], made["b"]
