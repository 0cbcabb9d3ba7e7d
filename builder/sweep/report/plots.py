"""The plots: Vega-Lite specifications, written once, drawn by the page and as PNG.

A specification names its data (``points``, …) and does not hold them: the same rows serve several plots. Text of the
user's is in the data alone, never in an expression.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder.sweep.report import rows
from builder.sweep.report.style import HEIGHT, WIDTH

if TYPE_CHECKING:
    from builder.artifacts import Json
    from builder.sweep.swept import Swept

Spec = dict[str, Any]

SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v6.json"
"""Names the language; nobody fetches it."""


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot.

    Args:
        name: of its PNG, and its place in the page.
        title: for people.
        reading: how it is read: one or two sentences.
        spec: Vega-Lite.
        data: the rows that no other plot needs, by the name that the specification calls them by.
    """

    name: str
    title: str
    reading: str
    spec: Spec
    data: dict[str, list[Json]]


def spec(width: int = WIDTH, height: int | Json = HEIGHT, **parts: Json) -> Spec:
    """A specification of the usual size."""
    fit = {"type": "fit-x", "contains": "padding"}
    return {"$schema": SCHEMA, "width": width, "height": height, "autosize": fit, **parts}


def number(field: str, title: str | None, **more: Json) -> Spec:
    """An encoding by a number."""
    return {"field": field, "type": "quantitative", "title": title, **more}


def tooltip(swept: Swept) -> list[Spec]:
    """What is said of a point on which the pointer rests."""
    said = [
        ("n", "point", ""),
        ("setting", "setting", ""),
        ("load", "load", ""),
        ("throughput", "inferences/s", ".1f"),
        ("p50_ms", "p50, ms", ".1f"),
        ("p99_ms", "p99, ms", ".1f"),
        ("cost", "price of a million", ".3f"),
        ("state", "state", ""),
        ("reason", "because", ""),
        ("why", "measured because", ""),
    ]
    return [
        {"field": field, "title": title, **({"format": form, "type": "quantitative"} if form else {"type": "nominal"})}
        for field, title, form in said
        if field != "cost" or swept.aim.price_per_hour is not None
    ]


def throughput(swept: Swept, points: list[rows.Row]) -> Plot:
    """Throughput against the 99th percentile of the latency."""
    drawn = [row for row in points if "p99_ms" in row and "throughput" in row]
    high = [row["p99_ms"] for row in drawn]
    scale = {"type": "log", "nice": True} if high and max(high) > 10 * min(high) else {"zero": True}
    y = number("p99_ms", "latency p99, ms" + (" (logarithmic)" if "type" in scale else ""), scale=scale)
    x = number("throughput", "throughput, inferences/s", scale={"zero": True, "nice": True})
    good = {"filter": "isValid(datum.p99_ms) && isValid(datum.throughput)"}
    states = [rows.HOLDS, rows.BREAKS] if swept.constraints else [rows.STABLE]
    colour = {"field": "state", "type": "nominal", "scale": {"domain": states}}
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "style": "interval"},
            "encoding": {"x": x | {"field": "throughput_low"}, "x2": {"field": "throughput_high"}, "y": y},
        },
        {
            "mark": {"type": "rule", "style": "interval"},
            "encoding": {"x": x, "y": y | {"field": "p99_ms_low"}, "y2": {"field": "p99_ms_high"}},
        },
        {
            "transform": [{"filter": "datum.front"}],
            "mark": {"type": "line", "style": "front", "interpolate": "step-before"},
            "encoding": {"x": x, "y": y, "order": {"field": "throughput", "type": "quantitative"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 55, "opacity": 0.9},
            "encoding": {"x": x, "y": y, "color": colour, "tooltip": tooltip(swept)},
        },
        *_named("throughput", "p99_ms", x, y),
        *_bound(swept, "p99_ms", y),
    ]
    return Plot(
        "throughput-p99",
        "Throughput against p99",
        "Each dot is a setting under a load, with 95 % intervals. The line is the Pareto front: nothing that was measured "
        "has both more throughput and a lower p99.",
        spec(transform=[good], data={"name": "points"}, layer=layers),
        {},
    )


def search_path(swept: Swept) -> Plot:
    """The objective of each point, in the order of measuring."""
    unit = f", {swept.aim.unit}" if swept.aim.unit else ""
    x = number("n", "point, in the order of measuring", scale={"nice": False, "padding": 12}, axis={"tickMinStep": 1})
    y = number("score", f"{swept.aim.label}{unit}", scale={"zero": True})
    states = [rows.HOLDS, rows.BREAKS] if swept.constraints else [rows.STABLE]
    colour = {"field": "state", "type": "nominal", "scale": {"domain": states}}
    layers: list[Spec] = [
        {
            "transform": [{"filter": "isValid(datum.best)"}],
            "mark": {"type": "line", "style": "front", "interpolate": "step-after"},
            "encoding": {"x": x, "y": number("best", None) | {"title": y["title"]}},
        },
        {
            "transform": [{"filter": "isValid(datum.score)"}],
            "mark": {"type": "point", "filled": True, "size": 45},
            "encoding": {"x": x, "y": y, "color": colour, "tooltip": tooltip(swept)},
        },
        {
            "transform": [{"filter": "!isValid(datum.score)"}],
            "mark": {
                "type": "point",
                "shape": "cross",
                "angle": 45,
                "size": 60,
                "style": "unbelieved",
                "y": "height",
                "yOffset": -8,
            },
            "encoding": {"x": x, "tooltip": tooltip(swept)},
        },
        *_named("n", "score", x, y),
    ]
    return Plot(
        "search",
        "The search's path",
        "Each dot is a point that was measured, the line is the best so far. Crosses at the lower edge are points without a "
        "figure that can be believed; the table says why.",
        spec(height=240, data={"name": "points"}, layer=layers),
        {},
    )


def usage(swept: Swept, points: list[rows.Row]) -> Plot | None:
    """Memory, the client's processors, and the GPUs, by throughput; None where nothing of it is known."""
    panels = [("memory_mb", "server's memory, MB", 1.0), ("client_share", "client's processors in use, %", 100.0)]
    gpus = sorted({key for one in swept.tried for key in rows.gpu_figures(one.point)})
    panels += [(f"gpu {key}", _gpu_title(key), 1.0 if key.endswith("_mb") else 100.0) for key in gpus]
    found = [
        {"panel": title, "throughput": row["throughput"], "value": row[field] * factor, "at": at}
        | {key: row[key] for key in ("n", "setting", "load", "state", "mark")}
        for at, (field, title, factor) in enumerate(panels)
        for row in points
        if row.get(field) is not None and "throughput" in row
    ]
    titles = list(dict.fromkeys(str(one["panel"]) for one in found))
    if not titles:
        return None
    width = (WIDTH - 70 * (min(len(titles), 3) - 1)) // min(len(titles), 3)
    return Plot(
        "usage",
        "Memory and processors",
        "What a setting holds and uses at its throughput. A client that uses all its processors is the limit itself: such "
        "points are left out as saturated.",
        {
            "$schema": SCHEMA,
            "data": {"name": "usage"},
            "concat": [_panel(title, width, swept) for title in titles],
            "columns": 3,
            "spacing": 24,
        },
        {"usage": found},
    )


def _panel(title: str, width: int, swept: Swept) -> Spec:
    states = [rows.HOLDS, rows.BREAKS] if swept.constraints else [rows.STABLE]
    said = [("n", "point"), ("setting", "setting"), ("load", "load"), ("throughput", "inferences/s"), ("value", title)]
    kinds = {"n": {}, "throughput": {"format": ".1f"}, "value": {"format": ".1f"}}
    return {
        "width": width,
        "height": 200,
        "transform": [{"filter": {"field": "panel", "equal": title}}],
        "mark": {"type": "point", "filled": True, "size": 40},
        "encoding": {
            "x": number("throughput", "inferences/s", axis={"tickCount": 5}),
            "y": number("value", title, scale={"zero": True}),
            "color": {"field": "state", "type": "nominal", "scale": {"domain": states}},
            "tooltip": [
                {"field": field, "title": label, "type": "quantitative" if field in kinds else "nominal"}
                | kinds.get(field, {})
                for field, label in said
            ],
        },
    }


def _gpu_title(key: str) -> str:
    gpu, _, name = key.partition(" ")
    return f"GPU {gpu}: memory, MB" if name.endswith("_mb") else f"GPU {gpu}: {name}, %"


def _named(x_field: str, y_field: str, x: Spec, y: Spec) -> list[Spec]:
    """A ring around the winner and the subject as it is, with their names."""
    named = [{"filter": f"isValid(datum.mark) && isValid(datum.{x_field}) && isValid(datum.{y_field})"}]
    place = {"x": x, "y": y}
    label = {"type": "text", "style": "label", "dy": -14, "align": "center"}
    return [
        {
            "transform": named,
            "mark": {"type": "point", "size": 190, "style": "ring", "filled": False},
            "encoding": place,
        },
        {"transform": named, "mark": label, "encoding": {**place, "text": {"field": "mark", "type": "nominal"}}},
    ]


def _bound(swept: Swept, figure: str, y: Spec) -> list[Spec]:
    """The line of a constraint, with its name."""
    bound = swept.constraints.get(figure)
    if bound is None:
        return []
    said = f"{figure.removesuffix('_ms')} ≤ {bound:g} ms"
    line = {"data": {"values": [{"bound": bound, "said": said}]}}
    there = y | {"field": "bound"}
    text = {
        "type": "text",
        "style": "constraint-label",
        "align": "left",
        "baseline": "bottom",
        "dx": 4,
        "dy": -4,
        "x": 0,
    }
    return [
        {**line, "mark": {"type": "rule", "style": "constraint"}, "encoding": {"y": there}},
        {**line, "mark": text, "encoding": {"y": there, "text": {"field": "said", "type": "nominal"}}},
    ]
