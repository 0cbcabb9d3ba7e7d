"""How the latencies of the best points are distributed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from builder.sweep.report import rows
from builder.sweep.report.plots import Plot, Spec, number, spec

if TYPE_CHECKING:
    from builder.artifacts import Json
    from builder.sweep.swept import Swept, Tried

_PERCENTILES: Final = {50: "p50_ms", 90: "p90_ms", 95: "p95_ms", 99: "p99_ms"}


def latencies(swept: Swept) -> Plot | None:
    """Latency by percentile of the best points and of the subject as it is; None where there is no stable one.

    The percentiles stand at ``-log10(1 - share)``: 90 % is at 1, 99 % at 2. So the tail, which bounds are about, has
    as much room as the middle (as in HdrHistogram's plots).
    """
    data: list[Json] = [row for one in rows.shown(swept) for row in _curve(swept, one)]
    if not data:
        return None
    x = number(
        "nines",
        "share of requests that are at least as fast",
        scale={"domain": [0, 2], "nice": False},
        axis={"values": [_nines(50), 1, _nines(95), 2, 0], "labelExpr": _LABELS, "labelFlush": False},
    )
    y = number("ms", "latency, ms", scale={"zero": True})
    names = [_name(swept, one) for one in rows.shown(swept)]
    colour = {
        "field": "name",
        "type": "nominal",
        "scale": {"domain": names, "range": _COLOURS[: len(names)]},
        "legend": {"columns": 1, "symbolType": "stroke", "symbolStrokeWidth": 3},
    }
    said = [{"field": "name", "type": "nominal", "title": "point"},
            {"field": "percent", "type": "quantitative", "title": "%"},
            {"field": "ms", "type": "quantitative", "title": "ms", "format": ".1f"}]  # fmt: skip
    known = [{"filter": "isValid(datum.high)"}]
    place = {"x": x, "y": y, "color": colour}
    bar = {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, "color": colour}
    line, dot = {"type": "line", "strokeWidth": 1.75}, {"type": "point", "filled": True, "size": 35, "opacity": 1}
    layers: list[Spec] = [
        {"transform": [{"filter": "!isValid(datum.high)"}], "mark": line, "encoding": place},
        {"transform": known, "mark": {"type": "rule", "strokeWidth": 1.25}, "encoding": bar},
        {"transform": known, "mark": dot, "encoding": {**place, "tooltip": said}},
    ]
    return Plot(
        "latency",
        "Latency distributions",
        "Latency by percentile, for the subject as it is and the best settings. Percentiles are spaced so that the "
        "tail can be read; bars are 95 % intervals.",
        spec(height=260, data={"name": "latencies"}, layer=layers),
        {"latencies": data},
    )


_COLOURS: Final = ("#d9650d", "#1d6fc0", "#2a9d68", "#8d62c4", "#b08a00", "#7f8c99")
_LABELS: Final = "format(100 - 100 * pow(10, -datum.value), '.0f') + ' %'"


def _nines(percent: float) -> float:
    return -math.log10(1 - percent / 100)


def _name(swept: Swept, tried: Tried) -> str:
    return f"{rows.name(swept, tried)}: {swept.varies(tried.point.setting).label}, {tried.point.load.label}"


def _curve(swept: Swept, tried: Tried) -> list[Json]:
    what = {"name": _name(swept, tried)}
    line = [{**what, "percent": percent, "nines": _nines(percent), "ms": ms} for percent, ms in _line(tried)]
    marks = [
        {**what, "percent": percent, "nines": _nines(percent), "ms": found.value, "low": found.low, "high": found.high}
        for percent, name in _PERCENTILES.items()
        if (found := getattr(tried.point, name)) is not None
    ]
    return [*line, *marks]


def _line(tried: Tried) -> list[tuple[int, float]]:
    """Of all percentiles where the single latencies were there; else straight between those that are known."""
    if tried.quantiles_ms:
        return list(enumerate(tried.quantiles_ms[:100]))
    return [(percent, found.value) for percent, name in _PERCENTILES.items() if (found := getattr(tried.point, name))]
