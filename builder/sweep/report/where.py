"""Where a request's time goes: in which step, and there in the queue or in computing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.sweep.report import rows
from builder.sweep.report.plots import Plot, number, spec
from builder.sweep.report.style import REST, STEPS

if TYPE_CHECKING:
    from collections.abc import Collection

    from builder.artifacts import Json
    from builder.sweep.point import Point
    from builder.sweep.swept import Swept, Tried

_PARTS: Final = (
    ("queue_ms", "queue"),
    ("compute_input_ms", "input"),
    ("compute_infer_ms", "compute"),
    ("compute_output_ms", "output"),
)
_OUTSIDE: Final = "network, copies, client"


def where_time_goes(swept: Swept) -> Plot | None:
    """A bar for each of the points that are worth a look; None where the server's times are not known."""
    chosen = [one for one in rows.shown(swept) if one.point.steps and one.point.mean_ms]
    if not chosen:
        return None
    names = {model: swept.served.step_label(model) for model in _models(swept, chosen)}
    data: list[Json] = []
    for one in chosen:
        what = {"name": rows.name(swept, one), "setting": swept.varies(one.point.setting).label}
        what["load"] = one.point.load.label
        data += [{**what, **part} for part in _parts(one.point, names)]
    parts = [f"{name}: {part}" for name in names.values() for _, part in _PARTS] + [_OUTSIDE]
    colours = [shade for index in range(len(names)) for shade in STEPS[index % len(STEPS)]] + [REST]
    said = [("name", "point"), ("setting", "setting"), ("load", "load"), ("part", "part"), ("ms", "ms")]
    forms = {"ms": {"type": "quantitative", "format": ".2f"}}
    return Plot(
        "where-time-goes",
        "Where the time goes",
        "Mean time of a request, by step; steps that run at once are stacked, too. What the server's own times leave "
        "over is the network, copies between steps and the client.",
        spec(
            height=34 * len(chosen),
            data={"name": "parts"},
            mark={"type": "bar", "height": {"band": 0.72}},
            encoding={
                "y": {"field": "name", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 240}},
                "x": number("ms", "mean latency, ms", stack="zero"),
                "order": {"field": "order", "type": "quantitative"},
                "color": {
                    "field": "part",
                    "type": "nominal",
                    "scale": {"domain": parts, "range": colours},
                    "legend": {"columns": 4, "symbolType": "square"},
                },
                "tooltip": [
                    {"field": field, "title": title, **forms.get(field, {"type": "nominal"})} for field, title in said
                ],
            },
        ),
        {"parts": data},
    )


def outside_ms(point: Point, models: Collection[str]) -> float:
    """What these models' times leave of the mean latency, ms; 0 where steps run at once and sum up to more."""
    there = [times for model, times in point.steps.items() if model in models]
    inside: float = sum(getattr(times, field) for times in there for field, _ in _PARTS)
    return max(0.0, (point.mean_ms.value if point.mean_ms else 0.0) - inside)


def _models(swept: Swept, chosen: list[Tried]) -> list[str]:
    """Those that a request passes. Not the ensemble: Triton counts the time of its steps as its own, once more."""
    measured = {model for one in chosen for model in one.point.steps}
    return [step.model for step in swept.served.steps if step.model in measured]


def _parts(point: Point, names: dict[str, str]) -> list[dict[str, Json]]:
    inside = [
        {"part": f"{name}: {part}", "ms": getattr(point.steps[model], field)}
        for model, name in names.items()
        if model in point.steps
        for field, part in _PARTS
    ]
    outside = {"part": _OUTSIDE, "ms": outside_ms(point, names)}
    return [{**one, "order": order} for order, one in enumerate([*inside, outside])]
