"""What goes into a search, what comes out of it, and what it says meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from builder.sweep.objective import judged, ordered, pooled, winner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.sweep.load import Load
    from builder.sweep.objective import Constraints, Objective, Ranked
    from builder.sweep.point import Point
    from builder.sweep.setting import Setting
    from builder.sweep.space import Facts


class Measure(Protocol):
    """Measures a setting under a load for so many seconds; the point says what it cost in all."""

    def __call__(self, setting: Setting, load: Load, seconds: float) -> Point:
        """A point, whatever happened."""


class Told(Protocol):
    """Called after each measurement."""

    def __call__(self, point: Point, best: Point | None, left_seconds: float | None, said: str, /) -> None:
        """The point, the best so far that surely meets the constraints, an estimate, and what it was measured for."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is searched.

    Args:
        settings: canonical ones.
        loads: ascending; one for a load that is given.
        objective: what is best.
        constraints: what must hold.
        facts: of machine and subject.
        seconds: of each measurement.
        seed: of all that is left to chance.
        budget_seconds: no measurement begins after so much measuring. None: no limit.
    """

    settings: tuple[Setting, ...]
    loads: tuple[Load, ...]
    objective: Objective
    constraints: Constraints
    facts: Facts
    seconds: float = 1.5
    seed: int = 0
    budget_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What came of it: the points in the order of measuring, all of them ranked, and why it ended."""

    points: tuple[Point, ...]
    ranking: tuple[Ranked, ...]
    why: str

    @property
    def winner(self) -> Ranked | None:
        """The best that surely met its constraints."""
        return winner(self.ranking)


def joined(tasks: Sequence[Task]) -> Task:
    """One task with the settings and loads of all."""
    every = dict.fromkeys(setting for task in tasks for setting in task.settings)
    return replace(tasks[0], settings=tuple(every), loads=tuple(load for task in tasks for load in task.loads))


def together(found: Sequence[Found]) -> Found:
    """What several searches found, as one."""
    points = tuple(point for one in found for point in one.points)
    ranking = ordered(ranked for one in found for ranked in one.ranking)
    return Found(points, ranking, "; ".join(dict.fromkeys(one.why for one in found)))


@dataclass(slots=True)
class Journey:
    """Measures, remembers and tells: what all searches share. It may begin with points that were measured before."""

    task: Task
    measure: Measure
    told: Told
    points: list[Point] = field(default_factory=list)
    _judged: dict[tuple[Setting, Load], Ranked] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for setting, load in {(point.setting, point.load) for point in self.points}:
            self._judge(setting, load)

    def _judge(self, setting: Setting, load: Load) -> None:
        same = [one for one in self.points if one.setting == setting and one.load == load]
        self._judged[setting, load] = judged(pooled(same), self.task.objective, self.task.constraints)

    @property
    def spent(self) -> float:
        """Seconds of all measurements, with loading."""
        return sum(point.seconds for point in self.points)

    @property
    def over(self) -> bool:
        """Whether the budget is spent."""
        return self.task.budget_seconds is not None and self.spent >= self.task.budget_seconds

    def take(self, setting: Setting, load: Load, said: str, *, left: float | None = None, times: float = 1.0) -> Point:
        """One measurement. ``left``: how many more there may be; ``times``: how much longer than usual."""
        point = self.measure(setting, load, self.task.seconds * times)
        self.points.append(point)
        self._judge(setting, load)
        best = winner(self.ranking())
        seconds = None if left is None else left * self.spent / len(self.points)
        if seconds is not None and self.task.budget_seconds is not None:
            seconds = min(seconds, max(0.0, self.task.budget_seconds - self.spent))
        self.told(point, best.point if best else None, seconds, said)
        return point

    def pooled(self, setting: Setting, load: Load) -> Ranked | None:
        """What all measurements of a setting under a load say together."""
        return self._judged.get((setting, load))

    def ranking(self) -> tuple[Ranked, ...]:
        """Of all points so far, under the loads that were asked for: calibration may have had others."""
        asked = set(self.task.loads)
        return ordered(one for (_, load), one in self._judged.items() if load in asked)

    def found(self, why: str, first: tuple[Ranked, ...] = ()) -> Found:
        """The end. ``first``: who ranks before all others, whatever these look like."""
        ahead = {(one.point.setting, one.point.load) for one in first}
        others = tuple(one for one in self.ranking() if (one.point.setting, one.point.load) not in ahead)
        return Found(tuple(self.points), (*first, *others), why)
