"""The report of a sweep: one HTML file, a PNG of each plot, and results.json. The ranking as text is in ``text``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from builder.tools import atomic, vega

if TYPE_CHECKING:
    from pathlib import Path

    from builder.sweep.report.plots import Plot
    from builder.sweep.report.rows import Row
    from builder.sweep.swept import Swept

RESULTS: Final = "results.json"
PAGE: Final = "report.html"
PICTURES: Final = ("throughput-p99", "heat-map", "latency", "where-time-goes", "usage", "search")
"""The names of all plots, in the order of the page. A sweep has those that it has figures for."""


def write_report(swept: Swept, folder: Path) -> tuple[Path, ...]:
    """Writes results.json, a PNG of each plot, and report.html; each file appears whole or not at all.

    results.json comes first: what was measured is kept, whatever becomes of the pictures. Pictures of an earlier report
    that this one does not have are removed.

    Args:
        swept: the result.
        folder: where to; it is made where it is not there.

    Returns:
        The files, report.html first.

    Raises:
        MachineError: vl-convert is not installed; or the disk is full or cannot be written.
    """
    from builder.sweep.report import rows, style
    from builder.sweep.report.page import page

    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(swept.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
        atomic.write(folder / RESULTS, f"{text}\n".encode())
        points = rows.points(swept)
        found = all_plots(swept, points)
        config = style.config(dark=False)
        for plot in found:
            datasets = {"points": points, **plot.data}
            atomic.write(folder / f"{plot.name}.png", vega.png({**plot.spec, "datasets": datasets}, config))
        for name in set(PICTURES) - {plot.name for plot in found}:
            (folder / f"{name}.png").unlink(missing_ok=True)
        atomic.write(folder / PAGE, page(swept, points, found).encode())
    except OSError as error:
        raise atomic.disk_error(folder, error) from error
    return (folder / PAGE, *(folder / f"{plot.name}.png" for plot in found), folder / RESULTS)


def all_plots(swept: Swept, points: list[Row]) -> tuple[Plot, ...]:
    """The plots that the result has figures for, in the order of the page."""
    from builder.sweep.report import plots as drawn
    from builder.sweep.report.heat import heat_map
    from builder.sweep.report.latency import latencies
    from builder.sweep.report.where import where_time_goes

    found = (
        drawn.throughput(swept, points),
        heat_map(swept, points),
        latencies(swept),
        where_time_goes(swept),
        drawn.usage(swept),
        drawn.search_path(swept),
    )
    return tuple(plot for plot in found if plot is not None)
