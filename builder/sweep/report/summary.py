"""What a sweep comes to, in words: for the page, the terminal and Markdown alike."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from builder.sweep.report import rows
from builder.sweep.setting import knob_label, value_label

if TYPE_CHECKING:
    from builder.sweep.point import Interval, Point
    from builder.sweep.swept import Swept, Verdict

_FIGURES = {
    "throughput": "throughput, inferences/s",
    "p50_ms": "latency p50, ms",
    "p90_ms": "latency p90, ms",
    "p95_ms": "latency p95, ms",
    "p99_ms": "latency p99, ms",
    "memory_mb": "server's memory, MB",
    "error_rate": "share of failed requests",
    "cost": "price of a million inferences",
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
    if name.endswith("_ms"):
        return f"{name.removesuffix('_ms')} ≤ {value:g} ms"
    if name.endswith("_mb"):
        return f"{name.removesuffix('_mb')} ≤ {value:g} MB"
    return f"{name.replace('_', ' ')} ≤ {value:g}"


def aim(swept: Swept) -> str:
    """``highest throughput with p99 ≤ 60 ms``."""
    bounds = ", ".join(bound(name, value) for name, value in swept.constraints.items())
    most = "highest" if swept.aim.higher_is_better else "lowest"
    return f"{most} {swept.aim.label}" + (f" with {bounds}" if bounds else "")


def counts(swept: Swept) -> str:
    """``60 points: 38 hold the constraints, 3 unstable``."""
    found = Counter(rows.state(swept, one) for one in swept.tried)
    names = {rows.HOLDS: ("holds the constraints", "hold the constraints"),
             rows.BREAKS: ("breaks a constraint", "break a constraint")}  # fmt: skip
    said = [f"{count} {names.get(state, (state, state))[count > 1]}" for state, count in found.most_common()]
    return f"{len(swept.tried)} point{'s' * (len(swept.tried) != 1)}: {', '.join(said)}"


def effort(swept: Swept) -> str:
    """``60 points of 168 settings to choose from, in 3 min 12 s``."""
    settings = len({one.point.setting for one in swept.tried})
    among = f" of {swept.candidates}" if swept.candidates > settings else ""
    return f"{settings}{among} settings tried, {duration(swept.seconds)}"


def left_out(swept: Swept) -> list[tuple[str, str]]:
    """Why points do not rank, ``#12`` → reason: those that cannot be believed; a broken constraint speaks for itself."""
    return [
        (f"#{at}", f"{one.point.status}: {one.point.reason or 'no reason was given'}")
        for at, one in enumerate(swept.tried, 1)
        if one.point.status != "stable"
    ]


def gain(swept: Swept) -> str:
    """What the winner is to the subject as it is; empty without a winner.

    Of two intervals that overlap no gain is claimed.
    """
    winner, reference = swept.winner, swept.reference
    if winner is None:
        return ""
    if reference is None:
        return "The subject was not measured as it is, so no gain is told."
    if winner is reference:
        return "No setting is better than the subject as it is."
    if reference.point.status != "stable":
        return f"The subject as it is could not be measured ({reference.point.status}), so no gain is told."
    before, after = reference.point.throughput, winner.point.throughput
    if before is None or after is None or before.value <= 0:
        return ""
    words = f"{after.value / before.value:.2f} times the throughput of the subject as it is"
    if before.low <= after.high and after.low <= before.high:
        words = "Within the noise, the throughput of the subject as it is"
    return words + _with_latency(reference.point, winner.point) + "."


def comparison(swept: Swept) -> list[tuple[str, str, str]]:
    """Figure by figure: label, as it is, winner. Empty texts where a figure is not known."""
    points = [one.point if one and one.point.status == "stable" else None for one in (swept.reference, swept.winner)]
    names = [name for name in _FIGURES if name != "error_rate"]
    found = [(figure_label(name), *(_figure(swept, point, name) for point in points)) for name in names]
    return [row for row in found if row[1] or row[2]]


def settings(swept: Swept) -> list[tuple[str, str, str]]:
    """Knob by knob: label, as it is, winner."""
    known = [one.point if one else None for one in (swept.reference, swept.winner)]
    varied = [knob for knob, values in swept.knobs.items() if len(values) > 1]
    found = [
        (knob_label(knob), *("" if point is None else value_label(point.setting.get(knob)) for point in known))
        for knob in varied
    ]
    return [*found, ("load", *("" if point is None else point.load.label for point in known))]


def verdict(one: Verdict) -> str:
    """``throughput: better, 66.8 (65.9 to 67.7) → 128.4 (126.9 to 129.7)``."""
    said = f"{figure_label(one.figure)}: {one.verdict}"
    if one.verdict == "unstable" or one.before is None or one.after is None:
        return said
    return f"{said}, {interval(one.before)} → {interval(one.after)}"


def _figure(swept: Swept, point: Point | None, name: str) -> str:
    if point is None:
        return ""
    if name == "cost":
        cost = swept.cost(point)
        return "" if cost is None else number(cost)
    found = getattr(point, name)
    return "" if found is None else number(found) if isinstance(found, float) else interval(found)


def _with_latency(before: Point, after: Point) -> str:
    if before.p99_ms is None or after.p99_ms is None:
        return ""
    return f", p99 {number(after.p99_ms.value)} ms instead of {number(before.p99_ms.value)} ms"
