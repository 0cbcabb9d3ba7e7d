"""What the plots and the table are drawn from: one row for each point, in the order of measuring.

Only stable points have figures here. What an unstable, failed or saturated one measured stays in results.json.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.sweep.setting import value_label

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.artifacts import Json
    from builder.sweep.point import Point
    from builder.sweep.setting import Value
    from builder.sweep.swept import Swept, Tried

Row = dict[str, "Json"]

HOLDS: Final = "holds the constraints"
BREAKS: Final = "breaks a constraint"
STABLE: Final = "stable"
LATENCIES: Final = ("p50_ms", "p90_ms", "p95_ms", "p99_ms")
_INTERVALS: Final = ("throughput", *LATENCIES, "mean_ms")


def axes(swept: Swept) -> dict[str, tuple[Value, ...]]:
    """What varies, load included: knob → its values, in the order of the search."""
    knobs = {knob: values for knob, values in swept.knobs.items() if len(values) > 1}
    for name in ("concurrency", "rate", "batch"):
        values = sorted({found for one in swept.tried if (found := getattr(one.point.load, name)) is not None})
        knobs |= {name: tuple(values)} if len(values) > 1 else {}
    return knobs


def points(swept: Swept) -> list[Row]:
    """A row for each point."""
    knobs = list(axes(swept))
    ranks = {at: rank for rank, at in enumerate(swept.ranking, 1)}
    front = pareto_front(swept.tried)
    best = _best_so_far(swept)
    return [
        {
            **_what(swept, one, knobs),
            **_figures(swept, one.point),
            "n": at + 1,
            "state": state(swept, one),
            "rank": ranks.get(at),
            "mark": _mark(swept, at),
            "front": at in front,
            "score": one.score if one.point.status == "stable" else None,
            "best": best[at],
        }
        for at, one in enumerate(swept.tried)
    ]


def state(swept: Swept, tried: Tried) -> str:
    """What a point is good for, for people."""
    if tried.point.status != "stable":
        return tried.point.status
    return BREAKS if tried.broken else HOLDS if swept.constraints else STABLE


def reason(tried: Tried) -> str:
    """Why a point does not rank, for people; empty where it does."""
    return tried.point.reason if tried.point.status != "stable" else "; ".join(tried.broken)


def pareto_front(tried: Iterable[Tried]) -> set[int]:
    """The stable points to which none has both more throughput and a lower p99 (or one of them, the other equal)."""
    found = []
    for at, one in enumerate(tried):
        throughput, p99 = one.point.figure("throughput"), one.point.figure("p99_ms")
        if one.point.status == "stable" and throughput is not None and p99 is not None:
            found.append((-throughput, p99, at))
    front, lowest = set(), float("inf")
    for _, p99, at in sorted(found):
        if p99 < lowest:
            front.add(at)
            lowest = p99
    return front


def gpu_figures(point: Point) -> dict[str, float]:
    """``0 utilisation`` → value, of all GPUs of a stable point."""
    return {f"{gpu} {name}": value for gpu, found in point.gpu.items() for name, value in found.items()}


def shown(swept: Swept, most: int = 6) -> list[int]:
    """The points that are worth a closer look: the subject as it is, and the best ones, each setting once."""
    chosen = [] if swept.reference is None or swept.reference.point.status != "stable" else [swept.as_it_is or 0]
    settings = {swept.tried[at].point.setting for at in chosen}
    for at in swept.ranking:
        setting = swept.tried[at].point.setting
        if len(chosen) < most and setting not in settings:
            settings.add(setting)
            chosen.append(at)
    return chosen


def name(swept: Swept, at: int) -> str:
    """Of a point among a few: its number, and which one it is."""
    rank = swept.ranking.index(at) + 1 if at in swept.ranking else None
    words = ["as it is"] if at == swept.as_it_is else []
    words += ["winner"] if rank == 1 else [f"rank {rank}"] if rank else []
    return f"#{at + 1} ({', '.join(words)})" if words else f"#{at + 1}"


def _what(swept: Swept, tried: Tried, knobs: list[str]) -> Row:
    values = {**tried.point.load.as_json(), **tried.point.setting.as_dict()}
    return {
        "setting": swept.varies(tried.point.setting).label,
        "load": tried.point.load.label,
        "why": tried.why,
        "reason": reason(tried),
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
    row |= {"memory_mb": point.memory_mb, "client_share": point.client_share, "littles_law": point.littles_law}
    return {**row, "cost": swept.cost(point), **{f"gpu {key}": value for key, value in gpu_figures(point).items()}}


def _mark(swept: Swept, at: int) -> str | None:
    if swept.ranking and at == swept.ranking[0]:
        return "winner"
    return "as it is" if at == swept.as_it_is else None


def _best_so_far(swept: Swept) -> list[float | None]:
    best: float | None = None
    found = []
    ranked = set(swept.ranking)
    for at, one in enumerate(swept.tried):
        if at in ranked and one.score is not None:
            higher = best is None or (one.score > best) == swept.aim.higher_is_better
            best = one.score if higher else best
        found.append(best)
    return found
