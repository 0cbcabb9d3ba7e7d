"""What a sweep comes to, in words: for the page, the terminal and Markdown alike."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, TypeAlias

from builder.sweep.report import rows
from builder.sweep.setting import value_label

if TYPE_CHECKING:
    from builder.sweep.point import Interval, Point
    from builder.sweep.swept import Swept, Tried, Verdict

Figure: TypeAlias = "Interval | float | None"

_FIGURES: Final = {
    "throughput": "throughput, inferences/s",
    "p50_ms": "latency p50, ms",
    "p90_ms": "latency p90, ms",
    "p95_ms": "latency p95, ms",
    "p99_ms": "latency p99, ms",
    "mean_ms": "mean latency, ms",
    "memory_mb": "server's memory, MB",
    "cost": "cost per million inferences",
}


def number(value: float) -> str:
    """With as many places as a measurement bears: ``1284``, ``128.4``, ``9.71``, ``0.526``."""
    size = abs(value)
    return (
        f"{value:.0f}"
        if size >= 1000
        else f"{value:.1f}"
        if size >= 10
        else f"{value:.2f}"
        if size >= 1
        else f"{value:.3f}"
    )


def interval(found: Interval) -> str:
    """``128.4 (126.9 to 129.7)``."""
    return f"{number(found.value)} ({number(found.low)} to {number(found.high)})"


def duration(seconds: float) -> str:
    """``48 s``, ``3 min 12 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def figure_label(name: str) -> str:
    """A figure's name and unit, for people."""
    return _FIGURES.get(name, name)


def bound(name: str, value: float) -> str:
    """A constraint, for people: ``p99 ≤ 60 ms``."""
    if name == "min_throughput":
        return f"throughput ≥ {value:g}/s"
    if name == "error_rate":
        return f"errors ≤ {100 * value:g} %" if value else "no errors"
    unit = {"_ms": "ms", "_mb": "MB"}.get(name[-3:], "")
    return f"{name.removesuffix('_ms').removesuffix('_mb')} ≤ {value:g} {unit}".rstrip()


def aim(swept: Swept) -> str:
    """``highest throughput with p99 ≤ 60 ms``."""
    bounds = ", ".join(bound(name, value) for name, value in swept.constraints.items())
    if swept.aim.figure is None:
        best = "best of " + " and ".join(f"{weight:.2g} {_short(name)}" for name, weight in swept.aim.terms.items())
    else:
        best = f"{'highest' if swept.aim.figure == 'throughput' else 'lowest'} {_short(swept.aim.figure)}"
    return best + (f" with {bounds}" if bounds else "")


def _short(figure: str) -> str:
    return figure.removesuffix("_ms").removesuffix("_mb")


def counts(swept: Swept) -> str:
    """``60 points: 38 meet the constraints, 3 unstable``. A point is a setting under a load."""
    found = Counter(rows.state(swept, one) for one in swept.outcomes)
    plural = {rows.MET: "meet the constraints", rows.UNSURE: "may miss a constraint", rows.MISSED: "miss a constraint"}
    states = [*rows.STATES, rows.STABLE, "unstable", "failed", "saturated", "refused"]
    said = [
        f"{found[state]} {plural.get(state, state) if found[state] > 1 else state}" for state in states if found[state]
    ]
    points = len(swept.outcomes)
    return f"{points} point{'s' * (points != 1)}: {', '.join(said)}" if points else "nothing was measured"


def effort(swept: Swept) -> str:
    """``56 of 168 settings tried in 3 min 12 s``."""
    tried = len({one.point.setting for one in swept.tried})
    among = f"{tried} of {swept.candidates}" if swept.candidates > tried else f"{tried}"
    return f"{among} settings tried, {len(swept.tried)} measurements, {duration(swept.seconds)}"


def left_out(swept: Swept) -> list[tuple[str, str]]:
    """Points that cannot be believed, ``#12`` → why not."""
    return [
        (f"#{rows.number_of(swept, one)}", f"{one.point.status}: {one.point.reason or 'no reason was given'}")
        for one in swept.outcomes
        if one.point.status != "stable"
    ]


def no_winner(swept: Swept) -> str:
    """Why there is none."""
    if not swept.tried:
        return "Nothing was measured."
    if not swept.ranking:
        return "No setting could be measured so that its figures can be believed."
    unsure = any(one.verdict == "unsure" for one in swept.ranking)
    return "No setting surely meets the constraints" + ("; some may." if unsure else ".")


def winner_label(swept: Swept, winner: Tried) -> str:
    """``count 2 · max_batch_size 8, at concurrency 4``."""
    return f"{swept.varies(winner.point.setting).label}, at {winner.point.load.label}"


def gain(swept: Swept) -> str:
    """What the winner is to the subject as it is; empty without a winner.

    The figure that was sought comes first. Of intervals that overlap no gain is claimed.
    """
    winner, reference = swept.winner, swept.as_it_is
    if winner is None:
        return ""
    if reference is None:
        return "The subject was not measured as it is, so no gain is told."
    if reference.point.status != "stable":
        return f"The subject as it is could not be measured ({reference.point.status}), so no gain is told."
    if winner.what == reference.what:
        return "No setting is better than the subject as it is."
    sought = swept.aim.figure if swept.aim.figure in _FIGURES and swept.aim.figure != "cost" else "throughput"
    figures = dict.fromkeys((sought, "throughput", "p99_ms"))
    said = [_change(figure, reference.point, winner.point) for figure in figures]
    loads = f" ({winner.point.load.label} instead of {reference.point.load.label})"
    changed = loads if winner.point.load != reference.point.load else ""
    return f"Beside the subject as it is: {', '.join(one for one in said if one)}{changed}."


def comparison(swept: Swept) -> list[tuple[str, Figure, Figure]]:
    """Figure by figure: label, as it is, winner; those that neither has are left out."""
    points = [one.point if one and one.point.status == "stable" else None for one in (swept.as_it_is, swept.winner)]
    found = [
        (label, _figure(swept, points[0], name), _figure(swept, points[1], name)) for name, label in _FIGURES.items()
    ]
    return [row for row in found if row[1] is not None or row[2] is not None]


def settings(swept: Swept) -> list[tuple[str, str, str]]:
    """Knob by knob: its path, as it is, winner."""
    known = [one.point if one else None for one in (swept.as_it_is, swept.winner)]
    knobs = [knob for knob, values in swept.knobs.items() if len(values) > 1]
    said = [["" if point is None else value_label(point.setting.get(knob)) for point in known] for knob in knobs]
    loads = ["" if point is None else point.load.label for point in known]
    return [(knob, before, after) for knob, (before, after) in [*zip(knobs, said, strict=True), ("load", loads)]]


def verdict(one: Verdict) -> str:
    """``throughput: better, 66.8 (65.9 to 67.7) → 128.4 (126.9 to 129.7)``."""
    said = f"{figure_label(one.figure)}: {one.verdict}"
    if one.verdict == "unstable" or one.before is None or one.after is None:
        return said
    return f"{said}, {interval(one.before)} → {interval(one.after)}"


def _figure(swept: Swept, point: Point | None, name: str) -> Figure:
    if point is None:
        return None
    found: Figure = swept.cost(point) if name == "cost" else getattr(point, name)
    return found


def _change(figure: str, before: Point, after: Point) -> str:
    """``2.14 times the throughput``, ``p99 41.0 ms instead of 60.3 ms``; empty where a figure is not known."""
    one, other = getattr(before, figure), getattr(after, figure)
    if one is None or other is None:
        return ""
    if isinstance(one, float):
        return f"{_short(figure)} {number(other)} MB instead of {number(one)} MB"
    if one.low <= other.high and other.low <= one.high:
        return f"the same {_short(figure)} within the noise"
    if figure == "throughput":
        return f"{other.value / one.value:.2f} times the throughput" if one.value > 0 else ""
    return f"{_short(figure)} {number(other.value)} ms instead of {number(one.value)} ms"
