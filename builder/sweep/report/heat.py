"""The heat map of any two knobs: for which pair of values is the best figure how good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.sweep.report import rows
from builder.sweep.report.plots import SCHEMA, Plot
from builder.sweep.setting import knob_label, value_label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.artifacts import Json
    from builder.sweep.report.plots import Spec
    from builder.sweep.swept import Swept

_SPAN: Final = "max(1e-9, datum.max - datum.min)"
_HIGH: Final = {"best": "max", "strength": f"(datum.value - datum.min) / {_SPAN}"}
_LOW: Final = {"best": "min", "strength": f"(datum.max - datum.value) / {_SPAN}"}
FIGURES: Final[tuple[dict[str, Json], ...]] = (
    {"field": "held", "title": "throughput, inferences/s, of points that meet the constraints", **_HIGH},
    {"field": "throughput", "title": "throughput, inferences/s, of all stable points", **_HIGH},
    {"field": "p99_ms", "title": "latency p99, ms, of all stable points", **_LOW},
)
"""What a cell may show: field, title, which of several points is the best, and how dark it is, from 0 to 1."""


def heat_map(swept: Swept, points: list[rows.Row]) -> Plot | None:
    """The heat map, at first of the two knobs that matter most; None where fewer than two vary."""
    knobs = rows.axes(swept)
    if len(knobs) < 2 or not any("throughput" in row for row in points):
        return None
    first, second = _matter_most(points, len(knobs))
    data = [
        {**row, "held": row.get("throughput") if row["state"] in {rows.MET, rows.STABLE} else None} for row in points
    ]
    keys = {"n", "state", "held", "throughput", "p99_ms", *(f"k{index}" for index in range(len(knobs)))}
    kept: list[Json] = [{key: value for key, value in row.items() if key in keys} for row in data]
    return Plot(
        "heat-map",
        "Two knobs",
        "The best figure among all points with the two values, whatever their other knobs and load. A cross "
        "stands where no such point has a figure that can be believed or that meets the constraints; an empty cell was "
        "not measured.",
        _spec(_axis(knobs, first), _axis(knobs, second), _figures(swept)[0]),
        {"cells": kept},
    )


def choices(swept: Swept) -> dict[str, Json]:
    """What the page lets choose from: axes with their values in order, and figures."""
    knobs = rows.axes(swept)
    return {"axes": [_axis(knobs, index) for index in range(len(knobs))], "figures": _figures(swept)}


def _figures(swept: Swept) -> list[dict[str, Json]]:
    """Those that some point has; the first one is shown at first."""
    met, stable, latency = FIGURES
    found = [met] if swept.winner and swept.constraints else []
    found += [stable]
    return found + [latency] * any(one.point.p99_ms is not None for one in swept.ranking)


def _axis(knobs: dict[str, Any], index: int) -> dict[str, Json]:
    knob = list(knobs)[index]
    values = [value_label(value) for value in knobs[knob]]
    step = max(48, min(120, 800 // len(values)))  # pixels of a cell, for the values that stand side by side
    return {"field": f"k{index}", "title": knob_label(knob), "values": values, "step": step}


def _spec(x: dict[str, Json], y: dict[str, Json], figure: dict[str, Json]) -> Spec:
    """What depends on the axes and the figure is exchanged by the page: see ``heat`` in page.js."""
    words = {"test": "!isValid(datum.value)", "value": "\N{MULTIPLICATION X}"}
    number = {"condition": words, "field": "value", "type": "quantitative", "format": ".1f"}
    white = {"test": "isValid(datum.value) && datum.strength > 0.55", "value": "white"}
    cell = {"type": "rect", "cornerRadius": 3}
    return {
        "$schema": SCHEMA,
        "width": {"step": x["step"]},
        "height": {"step": 44},
        "data": {"name": "cells"},
        "transform": _transform(x, y, figure),
        "encoding": {
            "x": {"field": "x", "type": "nominal", **_scale(x), "axis": {"labelAngle": 0}},
            "y": {"field": "y", "type": "nominal", **_scale(y)},
        },
        "layer": [
            {"mark": cell, "encoding": {"color": _colour(figure), "tooltip": _TOOLTIP}},
            {"mark": {"type": "text", "fontWeight": 500}, "encoding": {"text": number, "color": {"condition": white}}},
        ],
    }


def _transform(x: dict[str, Json], y: dict[str, Json], figure: dict[str, Json]) -> list[Spec]:
    best = {"op": figure["best"], "field": "figure", "as": "value"}
    ends = [{"op": op, "field": "value", "as": op} for op in ("min", "max")]
    return [
        {"calculate": f"datum.{x['field']}", "as": "x"},
        {"calculate": f"datum.{y['field']}", "as": "y"},
        {"calculate": f"datum.{figure['field']}", "as": "figure"},
        {"aggregate": [best, {"op": "count", "as": "points"}], "groupby": ["x", "y"]},
        {"joinaggregate": ends},
        {"calculate": figure["strength"], "as": "strength"},
    ]


def _scale(axis: dict[str, Json]) -> Spec:
    return {"title": axis["title"], "scale": {"domain": axis["values"], "padding": 0.03}}


def _colour(figure: dict[str, Json]) -> Spec:
    legend = {"title": figure["title"], "titleLimit": 600, "gradientLength": 260}
    scale = {"zero": False, "reverse": figure["best"] == "min"}
    there = {"test": "isValid(datum.value)", "field": "value", "type": "quantitative", "legend": legend, "scale": scale}
    return {"condition": there, "value": "transparent"}


_TOOLTIP: Final = (
    {"field": "value", "title": "best", "type": "quantitative", "format": ".1f"},
    {"field": "points", "title": "points", "type": "quantitative"},
)


def _matter_most(points: Sequence[rows.Row], knobs: int) -> tuple[int, int]:
    """The two knobs whose values part the throughputs most: by the spread of the best throughput of each value."""

    def spread(index: int) -> float:
        best: dict[Json, float] = {}
        for row in points:
            if "throughput" in row:
                best[row[f"k{index}"]] = max(best.get(row[f"k{index}"], 0.0), row["throughput"])
        return max(best.values()) - min(best.values())

    first, second = sorted(sorted(range(knobs), key=lambda index: -spread(index))[:2])
    return first, second
