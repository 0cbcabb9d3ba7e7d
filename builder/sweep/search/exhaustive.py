"""Every setting; the load axis of each by bisection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.sweep.search.concurrency import Axis
from builder.sweep.search.finalists import decide
from builder.sweep.search.task import Journey

if TYPE_CHECKING:
    from builder.sweep.point import Point
    from builder.sweep.search.task import Found, Measure, Task, Told
    from builder.sweep.setting import Setting


def search(task: Task, measure: Measure, told: Told) -> Found:
    """Measures every setting, in the order of the task."""
    return walk(Journey(task, measure, told), task.settings)


def walk(journey: Journey, settings: tuple[Setting, ...]) -> Found:
    """Each of the settings in turn, as long as the budget lasts."""
    for number, setting in enumerate(settings):
        if journey.over:
            why = f"the time was spent after {number} of {len(settings)} settings"
            return decide(journey, why)
        one = _Walk(journey, setting, number, len(settings))
        Axis(journey.task, one.probe).search()
    return decide(journey, f"all {len(settings)} settings were measured")


class _Walk:
    """The measurements of one setting."""

    def __init__(self, journey: Journey, setting: Setting, number: int, of: int) -> None:
        self._journey, self._setting, self._number, self._of = journey, setting, number, of

    def probe(self, index: int, times: float) -> Point:
        journey = self._journey
        per_setting = (len(journey.points) + 1) / (self._number + 1)
        left = (self._of - self._number - 1) * per_setting
        said = f"setting {self._number + 1} of {self._of}"
        return journey.take(self._setting, journey.task.loads[index], said, left=left, times=times)
