"""What the plots and the table are drawn from: one row for each setting under a load.

Only stable points have figures here. What an unstable, failed or saturated one measured stays in results.json.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from builder.sweep.point import Interval
from builder.sweep.setting import value_label

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.artifacts import Json
    from builder.sweep.point import Point
    from builder.sweep.setting import Value
    from builder.sweep.swept import Swept, Tried

Row = dict[str, "Json"]

MET: Final = "meets the constraints"
UNSURE: Final = "may miss a constraint"
MISSED: Final = "misses a constraint"
STABLE: Final = "stable"
STATES: Final = (MET, UNSURE, MISSED)
_STATES: Final = {"met": MET, "unsure": UNSURE, "missed": MISSED}
LATENCIES: Final = ("p50_ms", "p90_ms", "p95_ms", "p99_ms")
_INTERVALS: Final = ("throughput", *LATENCIES, "mean_ms")


def axes(swept: Swept) -> dict[str, tuple[Value, ...]]:
    """What varies, load included: knob → its values, in the order of the search, after those that only points have.

    The subject as it is may leave a knob out, or have a value that the search would not try.
    """
    found: dict[str, tuple[Value, ...]] = {}
    for knob, values in swept.knobs.items():
        others = dict.fromkeys(one.point.setting.get(knob) for one in swept.outcomes)
        found[knob] = (*(value for value in others if value not in values), *values)
    for name in ("concurrency", "rate", "batch"):
        seen = {value for one in swept.outcomes if (value := getattr(one.point.load, name)) is not None}
        found[name] = tuple(sorted(seen))
    return {knob: values for knob, values in found.items() if len(values) > 1}


def points(swept: Swept) -> list[Row]:
    """A row for each setting under a load, best first; then those that have no figures."""
    knobs = list(axes(swept))
    front, ranked = pareto_front(swept.outcomes), len(swept.ranking)
    measured = Counter(one.what for one in swept.tried)
    return [
        {
            **_what(swept, one, knobs),
            **_figures(swept, one.point),
            "times": measured[one.what],
            "rank": rank if rank <= ranked and one.verdict == "met" else None,
            "front": one.what in front,
        }
        for rank, one in enumerate(swept.outcomes, 1)
    ]


def path(swept: Swept) -> list[Row]:
    """A row for each measurement, in their order, with the best so far of those that met the constraints."""
    found: list[Row] = []
    best: Tried | None = None
    ranked = {one.what for one in swept.ranking}
    for at, one in enumerate(swept.tried, 1):
        may_win = one.what in ranked and one.verdict == "met"
        if one.score is not None and may_win and (best is None or one.score > (best.score or 0.0)):
            best = one
        row = {**_what(swept, one, []), **_figures(swept, one.point), "n": at, "why": one.why}
        found.append({**row, "aim": _aim(swept, one), "best": best and _aim(swept, best)})
    return found


def brief(swept: Swept, tried: Tried) -> Row:
    """What says which point it is, and its throughput."""
    return {**_what(swept, tried, []), "throughput": tried.point.figure("throughput")}


def _aim(swept: Swept, tried: Tried) -> float | None:
    """The figure that the search is about; of several the score."""
    if tried.point.status != "stable" or swept.aim.figure is None:
        return tried.score if tried.point.status == "stable" else None
    return swept.cost(tried.point) if swept.aim.figure == "cost" else tried.point.figure(swept.aim.figure)


def state(swept: Swept, tried: Tried) -> str:
    """What a point is good for, for people."""
    if tried.point.status != "stable":
        return tried.point.status
    return _STATES[tried.verdict] if swept.constraints else STABLE


def number_of(swept: Swept, tried: Tried) -> int | None:
    """Of the first measurement of the same setting and load, from 1; None: there is none."""
    return next((at for at, one in enumerate(swept.tried, 1) if one.what == tried.what), None)


def reason(swept: Swept, tried: Tried) -> str:
    """Why a point does not rank, for people; empty where it does."""
    if tried.point.status != "stable":
        return tried.point.reason
    if tried.verdict == "met":
        return ""
    said = [_beyond(tried.point, name, limit) for name, limit in swept.constraints.items()]
    return "; ".join(one for one in said if one)


def _beyond(point: Point, name: str, limit: float) -> str:
    """How a figure or its interval goes beyond a limit: ``p99 61.2 > 60``; empty where it does not."""
    figure, least = name.removeprefix("min_"), name.startswith("min_")
    value, found = point.figure(figure), getattr(point, figure, None)
    label = figure.removesuffix("_ms").removesuffix("_mb").replace("_", " ")
    if value is None:
        return f"{label} is not known"
    worst = (found.low if least else found.high) if isinstance(found, Interval) else value
    if (value < limit) if least else (value > limit):
        return f"{label} {value:.4g} {'<' if least else '>'} {limit:g}"
    if (worst < limit) if least else (worst > limit):
        return f"{label} {value:.4g}, interval to {worst:.4g}, limit {limit:g}"
    return ""


def pareto_front(tried: Iterable[Tried]) -> set[object]:
    """The stable points to which none has both more throughput and a lower p99 (or one of them, the other equal)."""
    found = []
    for one in tried:
        throughput, p99 = one.point.figure("throughput"), one.point.figure("p99_ms")
        if one.point.status == "stable" and throughput is not None and p99 is not None:
            found.append((-throughput, p99, one.what))
    front, lowest = set[object](), float("inf")
    for _, p99, what in sorted(found, key=lambda one: one[:2]):
        if p99 < lowest:
            front.add(what)
            lowest = p99
    return front


def shown(swept: Swept, most: int = 6) -> list[Tried]:
    """The points that are worth a closer look: the subject as it is, and the best ones, each setting once."""
    chosen = [swept.as_it_is] if swept.as_it_is and swept.as_it_is.point.status == "stable" else []
    for one in swept.ranking:
        if len(chosen) < most and all(one.point.setting != other.point.setting for other in chosen):
            chosen.append(one)
    return chosen


def name(swept: Swept, tried: Tried) -> str:
    """Of a point among a few: its number, and which one it is."""
    return " ".join(f"#{number_of(swept, tried)} {_mark(swept, tried) or ''}".split())


def _what(swept: Swept, tried: Tried, knobs: list[str]) -> Row:
    values = {**tried.point.load.as_json(), **tried.point.setting.as_dict()}
    return {
        "n": number_of(swept, tried),
        "setting": swept.varies(tried.point.setting).label,
        "load": tried.point.load.label,
        "state": state(swept, tried),
        "reason": reason(swept, tried),
        "mark": _mark(swept, tried),
        **{f"k{index}": value_label(values.get(knob)) for index, knob in enumerate(knobs)},
    }


def _figures(swept: Swept, point: Point) -> Row:
    if point.status != "stable":
        return {}
    row: Row = {}
    for figure in _INTERVALS:
        found = getattr(point, figure)
        if found is not None:
            row |= {figure: found.value, f"{figure}_low": found.low, f"{figure}_high": found.high}
    row |= {name: getattr(point, name) for name in ("memory_mb", "server_share", "client_share", "littles_law")}
    return {**row, "cost": swept.cost(point)}


def _mark(swept: Swept, tried: Tried) -> str | None:
    marks = [("winner", swept.winner), ("as it is", swept.as_it_is)]
    return ", ".join(label for label, one in marks if one is not None and one.what == tried.what) or None
