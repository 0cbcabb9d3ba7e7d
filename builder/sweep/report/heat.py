"""The heat map of any two knobs: for which pair of values is the best figure how good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.sweep.report import rows
from builder.sweep.report.plots import Plot, spec
from builder.sweep.setting import knob_label, value_label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.artifacts import Json
    from builder.sweep.swept import Swept

FIGURES: Final = (
    ("held", "throughput, inferences/s, of points that hold the constraints", "max"),
    ("throughput", "throughput, inferences/s, of all stable points", "max"),
    ("p99_ms", "latency p99, ms, of all stable points", "min"),
)
"""What a cell may show: field, title, and which of several points is the best."""


def heat_map(swept: Swept, points: list[rows.Row]) -> Plot | None:
    """The heat map, at first of the two knobs that matter most; None where fewer than two vary."""
    knobs = rows.axes(swept)
    if len(knobs) < 2 or not any("throughput" in row for row in points):
        return None
    first, second = _matter_most(points, len(knobs))
    data = [{**row, "held": row.get("throughput") if row["state"] != rows.BREAKS else None} for row in points]
    keys = {"n", "state", "held", "throughput", "p99_ms", *(f"k{index}" for index in range(len(knobs)))}
    kept: list[Json] = [{key: value for key, value in row.items() if key in keys} for row in data]
    figure = FIGURES[0] if swept.ranking and swept.constraints else FIGURES[1]
    return Plot(
        "heat-map",
        "Two knobs",
        "The best figure among all points with the two values, whatever their other knobs and their load. × stands where "
        "no such point has a figure that can be believed or holds the constraints; an empty cell was not measured.",
        _spec(_axis(knobs, first), _axis(knobs, second), figure),
        {"cells": kept},
    )


def choices(swept: Swept) -> dict[str, Json]:
    """What the page lets choose from: axes with their values in order, and figures."""
    knobs = rows.axes(swept)
    figures = [{"field": field, "title": title, "best": best} for field, title, best in FIGURES]
    return {
        "axes": [_axis(knobs, index) for index in range(len(knobs))],
        "figures": figures[0 if swept.constraints else 1 :],
    }


def _axis(knobs: dict[str, Any], index: int) -> dict[str, Json]:
    knob = list(knobs)[index]
    return {"field": f"k{index}", "title": knob_label(knob), "values": [value_label(value) for value in knobs[knob]]}


def _spec(x: dict[str, Json], y: dict[str, Json], figure: tuple[str, str, str]) -> dict[str, Json]:
    """The page exchanges what stands in ``calculate``, ``op``, titles and domains: see ``heat`` in page.js."""
    field, title, best = figure
    across = {
        "field": "x",
        "type": "nominal",
        "title": x["title"],
        "scale": {"domain": x["values"]},
        "axis": {"labelAngle": 0},
    }
    down = {"field": "y", "type": "nominal", "title": y["title"], "scale": {"domain": y["values"]}}
    grey = {"condition": {"test": "isValid(datum.value)", "field": "value", "type": "quantitative", "title": title,
                          "scale": {"zero": False, "reverse": best == "min"},
                          "legend": {"title": title, "orient": "top", "titleLimit": 600, "gradientLength": 260}}, "value": "transparent"}  # fmt: skip
    dark = {"test": "isValid(datum.value) && datum.strength > 0.55", "value": "white"}
    words = {"test": "!isValid(datum.value)", "field": "missing", "type": "nominal"}
    number = {"condition": words, "field": "value", "type": "quantitative", "format": ".1f"}
    return spec(
        height={"step": 44},
        data={"name": "cells"},
        transform=[
            {"calculate": f"datum.{x['field']}", "as": "x"},
            {"calculate": f"datum.{y['field']}", "as": "y"},
            {"calculate": f"datum.{field}", "as": "figure"},
            {"aggregate": [{"op": best, "field": "figure", "as": "value"}, {"op": "count", "as": "measured"}],
             "groupby": ["x", "y"]},
            {"calculate": "'×'", "as": "missing"},
            {"joinaggregate": [{"op": "min", "field": "value", "as": "low"}, {"op": "max", "field": "value", "as": "high"}]},
            {"calculate": _STRENGTH[best], "as": "strength"},
        ],
        encoding={"x": across, "y": down},
        layer=[
            {"mark": {"type": "rect", "cornerRadius": 3}, "encoding": {"color": grey, "tooltip": [
                {"field": "value", "title": "best", "type": "quantitative", "format": ".1f"},
                {"field": "measured", "title": "points", "type": "quantitative"}]}},
            {"mark": {"type": "text", "fontWeight": 500}, "encoding": {"text": number, "color": {"condition": dark}}},
        ],
    )  # fmt: skip


_STRENGTH: Final = {
    "max": "(datum.value - datum.low) / max(1e-9, datum.high - datum.low)",
    "min": "(datum.high - datum.value) / max(1e-9, datum.high - datum.low)",
}


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
