"""Where a candidate lies among all: numbers for each knob, so that settings that are much alike lie close."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from builder.sweep.search.model import Reading
from builder.sweep.space import BATCHING, DELAY, MAX_BATCH_SIZE, PREFERRED

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from builder.sweep.load import Load
    from builder.sweep.search.simulate import Outcome
    from builder.sweep.setting import Setting, Value
    from builder.sweep.space import Facts


_SCHEDULING: Final = (BATCHING, DELAY, MAX_BATCH_SIZE, PREFERRED)


def places(candidates: Sequence[tuple[Setting, Load]], facts: Facts) -> np.ndarray:
    """One row for each candidate; shape (candidates, features).

    Numbers count as steps through the values that occur (1, 8, 32 lie one step apart); other values of a knob lie one
    step from each other. How many threads there are for each core, and how many requests for each place in a batch,
    are features of their own: what they decide is not smooth in the single knobs.
    """
    import numpy as np

    settings = [setting.as_dict() for setting, _ in candidates]
    columns: list[list[float]] = []
    for knob in sorted({knob for setting in settings for knob in setting}):
        columns += _columns([setting.get(knob) for setting in settings])
    columns += _columns([load.concurrency or load.rate for _, load in candidates])
    readings = [Reading.of(setting, facts) for setting, _ in candidates]
    columns.append([math.log2(max(1.0, one.instances * one.threads / facts.cores)) for one in readings])
    columns.append([_filling(one, load) for one, (_, load) in zip(readings, candidates, strict=True)])
    return np.array(columns).T


def twins(candidates: Sequence[tuple[Setting, Load]], outcomes: Sequence[Outcome]) -> list[int]:
    """For each candidate the first one that does the same under its load, itself if there is none before.

    With four requests in flight, a largest batch of 8 and one of 32 are the same. The simulation knows: where not a
    single request took another time, no batch was another one. What was measured of one is known of all of them.
    """
    first: dict[object, int] = {}
    found = []
    for place, ((setting, load), outcome) in enumerate(zip(candidates, outcomes, strict=True)):
        other = tuple(pair for pair in setting.values if pair[0] not in _SCHEDULING)
        found.append(first.setdefault((other, load, outcome.latencies_ms), place))
    return found


def _columns(values: Sequence[Value]) -> list[list[float]]:
    """One column of steps for numbers; for anything else one for each value."""
    numbers = sorted({value for value in values if isinstance(value, int | float) and not isinstance(value, bool)})
    if all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values):
        step = {number: float(place) for place, number in enumerate(numbers)}
        return [[step.get(value, -1.0) if isinstance(value, int | float) else -1.0 for value in values]]
    kinds = sorted({repr(value) for value in values})
    return [[0.7 * (repr(value) == kind) for value in values] for kind in kinds[1:]]


def _filling(reading: Reading, load: Load) -> float:
    """Requests for each place in a batch, in doublings: whether batches fill, and instances have work."""
    places_ = reading.instances * reading.scheduler.largest
    return _bounded(math.log2((load.concurrency or places_) * load.batch / places_))


def _bounded(value: float) -> float:
    return max(-2.0, min(2.0, value))
