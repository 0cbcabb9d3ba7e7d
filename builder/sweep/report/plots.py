"""The plots: Vega-Lite specifications, written once, drawn by the page and as PNG.

A specification names its data (``points``, …) and does not hold them: the same rows serve several plots. Text of the
user's is in the data alone, never in an expression.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder.sweep.report import rows, summary
from builder.sweep.report.style import HEIGHT, WIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.artifacts import Json
    from builder.sweep.point import Point
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


def tooltip(swept: Swept, *, why: bool = False) -> list[Spec]:
    """What is said of a point on which the pointer rests."""
    said = [
        ("n", "measurement", ""),
        ("setting", "setting", ""),
        ("load", "load", ""),
        ("throughput", "inferences/s", ".1f"),
        ("p50_ms", "p50, ms", ".1f"),
        ("p99_ms", "p99, ms", ".1f"),
        ("cost", "cost per million", ".3f"),
        ("state", "state", ""),
        ("reason", "because", ""),
        ("why", "measured because", ""),
    ]
    without = {"cost"} if swept.aim.price_per_hour is None else set[str]()
    without |= set[str]() if why else {"why"}
    return [
        {"field": field, "title": title, **({"format": form, "type": "quantitative"} if form else {"type": "nominal"})}
        for field, title, form in said
        if field not in without
    ]


def colour(swept: Swept, found: Sequence[rows.Row]) -> Spec:
    """An encoding by whether the constraints are met: each state has its colour, whichever of them there are."""
    there = {row["state"] for row in found}
    states = list(rows.STATES) if swept.constraints else [rows.STABLE]
    legend = {"values": [state for state in states if state in there]}
    return {"field": "state", "type": "nominal", "scale": {"domain": states}, "legend": legend}


def throughput(swept: Swept, points: list[rows.Row]) -> Plot | None:
    """Throughput against the 99th percentile of the latency; None where no point has both."""
    drawn = [row for row in points if "p99_ms" in row and "throughput" in row]
    if not drawn:
        return None
    high = [row["p99_ms"] for row in drawn]
    logarithmic = max(high) > 10 * min(high) > 0
    scale = {"type": "log", "nice": False, "padding": 16} if logarithmic else {"zero": True}
    y = number("p99_ms", "latency p99, ms" + " (logarithmic)" * logarithmic, scale=scale, axis={"tickCount": 6})
    x = number("throughput", "throughput, inferences/s", scale={"zero": True}, axis={"tickCount": 8})
    rule = {"type": "rule", "style": "interval"}
    layers: list[Spec] = [
        {"mark": rule, "encoding": {"x": x | {"field": "throughput_low"}, "x2": {"field": "throughput_high"}, "y": y}},
        {"mark": rule, "encoding": {"x": x, "y": y | {"field": "p99_ms_low"}, "y2": {"field": "p99_ms_high"}}},
        {
            "transform": [{"filter": "datum.front"}],
            "mark": {"type": "line", "style": "front", "interpolate": "step-before"},
            "encoding": {"x": x, "y": y, "order": {"field": "throughput", "type": "quantitative"}},
        },
        *_bound(swept, "p99_ms", y),
        {
            "mark": {"type": "point", "filled": True, "size": 50, "opacity": 0.9},
            "encoding": {"x": x, "y": y, "color": colour(swept, drawn), "tooltip": tooltip(swept)},
        },
        *_named(drawn, x, y, tooltip(swept)),
    ]
    return Plot(
        "throughput-p99",
        "Throughput against p99",
        "Each dot is a setting under a load, with 95 % intervals. The line is the Pareto front: nothing that was "
        "measured has both more throughput and a lower p99. Points whose figures cannot be believed are not drawn.",
        spec(
            transform=[{"filter": "isValid(datum.p99_ms) && isValid(datum.throughput)"}],
            data={"name": "points"},
            layer=layers,
        ),
        {},
    )


def search_path(swept: Swept) -> Plot | None:
    """The objective of each measurement, in their order; None before the first one."""
    found = rows.path(swept)
    if not found:
        return None
    return Plot(
        "search",
        "The search's path",
        "Each dot is a measurement, the line is the best so far that meets the constraints. Crosses at the lower edge "
        "are measurements without figures that can be believed; the table says why.",
        spec(height=240, data={"name": "path"}, layer=_path_layers(swept, found)),
        {"path": found},
    )


def _path_layers(swept: Swept, found: list[rows.Row]) -> list[Spec]:
    """Only those that have something to show: of a layer without data Vega says that its extent is infinite."""
    figure, said = swept.aim.figure, tooltip(swept, why=True)
    scale = {"nice": False, "zero": False, "padding": 14}
    x = number("n", "measurement", scale=scale, axis={"tickMinStep": 1, "tickCount": 10, "grid": False})
    y = number("aim", summary.figure_label(figure) if figure else "score", scale={"zero": figure is not None})
    best: Spec = {
        "transform": [{"filter": "isValid(datum.best)"}],
        "mark": {"type": "line", "style": "front", "interpolate": "step-after"},
        "encoding": {"x": x, "y": y | {"field": "best"}},
    }
    dots: Spec = {
        "transform": [{"filter": "isValid(datum.aim)"}],
        "mark": {"type": "point", "filled": True, "size": 45, "opacity": 0.9},
        "encoding": {"x": x, "y": y, "color": colour(swept, found), "tooltip": said},
    }
    cross = {"type": "text", "text": "✕", "fontSize": 13, "style": "unbelieved", "y": "height", "yOffset": -8}
    crosses: Spec = {
        "transform": [{"filter": "!isValid(datum.aim)"}],
        "mark": cross,
        "encoding": {"x": x, "tooltip": said},
    }
    figures = [row for row in found if row["aim"] is not None]
    layers = [best] if any(row["best"] is not None for row in found) else []
    layers += [dots] if figures else []
    layers += [crosses] if len(figures) < len(found) else []
    return layers + _named(figures, x, y, said)


def usage(swept: Swept) -> Plot | None:
    """Memory, the client's processors, and the GPUs, by throughput; None where nothing of it is known."""
    found: list[Json] = []
    for one in swept.outcomes:
        if one.point.status == "stable" and one.point.throughput is not None:
            what = rows.brief(swept, one)
            found += [{**what, "panel": panel, "value": value} for panel, value in _used(one.point).items()]
    titles = list(dict.fromkeys(str(one["panel"]) for one in found))
    if not titles:
        return None
    columns = min(len(titles), 3)
    width = (WIDTH - 76 * columns) // columns
    panels = [_panel(title, width, tooltip(swept)[:4], colour(swept, found)) for title in titles]
    return Plot(
        "usage",
        "Memory and processors",
        "What a setting holds and uses at its throughput. A client that uses up its processors is the limit itself: "
        "such points are saturated, and left out.",
        {"$schema": SCHEMA, "data": {"name": "usage"}, "concat": panels, "columns": columns, "spacing": 26},
        {"usage": found},
    )


def _used(point: Point) -> dict[str, float]:
    """Panel → value. GPUs are called by their order: an identity of 40 characters says nothing."""
    found: dict[str, float | None] = {"server's memory, MB": point.memory_mb}
    for side, share in (("server", point.server_share), ("client", point.client_share)):
        found[f"processors that the {side} uses, %"] = None if share is None else share * 100
    for at, gpu in enumerate(sorted(point.gpu)):
        for name, value in point.gpu[gpu].items():
            memory = name.endswith("_mb")
            found[f"GPU {at}: {'memory, MB' if memory else f'{name}, %'}"] = value if memory else value * 100
    return {panel: value for panel, value in found.items() if value is not None}


def _panel(title: str, width: int, said: list[Spec], colours: Spec) -> Spec:
    value = {"field": "value", "title": title, "type": "quantitative", "format": ".1f"}
    return {
        "width": width,
        "height": 200,
        "transform": [{"filter": {"field": "panel", "equal": title}}],
        "mark": {"type": "point", "filled": True, "size": 40, "opacity": 0.8},
        "encoding": {
            "x": number("throughput", "inferences/s", axis={"tickCount": 4}),
            "y": number("value", title, scale={"zero": True}),
            "color": colours,
            "tooltip": [*said, value],
        },
    }


def _named(found: Sequence[rows.Row], x: Spec, y: Spec, said: list[Spec]) -> list[Spec]:
    """A ring around the winner and the subject as it is, with their names; no layer where neither is there."""
    if not any(row["mark"] for row in found):
        return []
    there = f"isValid(datum.mark) && isValid(datum.{x['field']}) && isValid(datum.{y['field']})"
    place = {"x": x, "y": y, "tooltip": said}
    label = place | {"text": {"field": "mark", "type": "nominal"}}
    marks = [(there, {"type": "point", "size": 170, "style": "ring"}, place)]
    names = dict.fromkeys(row["mark"] for row in found if row["mark"])
    for name, side in zip(names, (-16, 18), strict=False):  # on either side: the two may lie on each other
        which, text = f"datum.mark == {json.dumps(name)}", {"type": "text", "dy": side}
        marks += [(f"{there} && {which}", text | {"style": style}, label) for style in ("halo", "label")]
    return [{"transform": [{"filter": shown}], "mark": mark, "encoding": encoding} for shown, mark, encoding in marks]


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
