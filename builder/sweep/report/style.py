"""What all plots look like: Vega-Lite's ``config``, on light and on dark ground."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from builder.artifacts import Json

WIDTH: Final = 900  # pixels of a plot with its axes
HEIGHT: Final = 340

STEPS: Final = (
    ("#c6dbef", "#9ecae1", "#3182bd", "#6baed6"),
    ("#fdd0a2", "#fdae6b", "#d9650d", "#fd8d3c"),
    ("#c7e9c0", "#a1d99b", "#31a354", "#74c476"),
    ("#dadaeb", "#bcbddc", "#756bb1", "#9e9ac8"),
)
"""For each step of an ensemble a hue: queue, input, computing, output. (ColorBrewer's sequential schemes.)"""

REST: Final = "#9aa0a6"


def config(*, dark: bool) -> dict[str, Json]:
    """Colours and fonts. A mark of the style ``constraint`` or ``front`` is drawn alike in all plots."""
    ink, faint, line = ("#e6e8eb", "#a2a9b1", "#33383f") if dark else ("#1f2328", "#59636e", "#e4e7eb")
    accent, warn, axis, gold, ground = (
        ("#6cb0ff", "#ff9a62", "#4a515a", "#d9b23c", "#0f1318")
        if dark
        else ("#1d5fa8", "#c2410c", "#c3c9d0", "#c99a06", "white")
    )
    text = {"labelColor": faint, "titleColor": ink, "labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": 500}
    return {
        "background": None if dark else "white",
        "font": "Helvetica, Arial, sans-serif",
        "padding": 8,
        "view": {"stroke": None},
        "axis": {**text, "gridColor": line, "domainColor": axis, "tickColor": axis, "titlePadding": 10},
        "legend": {
            **text,
            "symbolStrokeWidth": 1.5,
            "symbolOpacity": 1,
            "orient": "top",
            "title": None,
            "labelLimit": 820,
        },
        "title": {"color": ink, "fontSize": 13, "fontWeight": 600, "anchor": "start", "subtitleColor": faint},
        "header": {**text},
        "range": {"category": [accent, gold, "#9aa0a6"], "ramp": _ramp(dark=dark), "heatmap": _ramp(dark=dark)},
        "text": {"color": ink, "fontSize": 11},
        "style": {
            "interval": {"color": faint, "strokeWidth": 1, "opacity": 0.5},
            "constraint": {"color": warn, "strokeWidth": 1.5, "strokeDash": [6, 4]},
            "constraint-label": {"color": warn, "fontSize": 11, "fontWeight": 600},
            "front": {"color": accent, "strokeWidth": 1.5, "opacity": 0.7},
            "ring": {"color": ink, "strokeWidth": 1.75, "opacity": 1},
            "unbelieved": {"color": warn, "strokeWidth": 1.75, "opacity": 1},
            "label": {"color": ink, "fontSize": 11, "fontWeight": 600},
            "halo": {
                "color": ground,
                "stroke": ground,
                "strokeWidth": 4,
                "fontSize": 11,
                "fontWeight": 600,
                "opacity": 0.85,
            },
        },
    }


def _ramp(*, dark: bool) -> list[str]:
    light = ["#eef4fb", "#c9dff2", "#94c1e3", "#5a9bd0", "#2c72b3", "#134b86"]
    return ["#16263a", "#1b3d63", "#21588f", "#2f77b8", "#5b9fd8", "#a6cdf0"] if dark else light
