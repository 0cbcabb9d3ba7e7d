"""The table of all points, as HTML. What sorts it is in page.js."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from builder.sweep.report import rows, summary
from builder.sweep.setting import knob_label, value_label

if TYPE_CHECKING:
    from builder.artifacts import Json
    from builder.sweep.setting import Value
    from builder.sweep.swept import Swept


@dataclass(frozen=True, slots=True)
class Column:
    """A column: the row's key, what stands above it, and how its cells are made."""

    key: str
    title: str
    hint: str = ""
    numeric: bool = True
    percent: bool = False
    interval: bool = False


def table(swept: Swept, points: list[rows.Row]) -> str:
    """The table. Cells say in ``data-v`` what they are sorted by: those without it stay at the end."""
    columns = [one for one in _columns(swept) if not one.numeric or any(row.get(one.key) is not None for row in points)]
    head = "".join(map(_head, columns))
    settings = [one.point.setting.as_dict() for one in swept.outcomes]
    body = "\n".join(_row(columns, row, values) for row, values in zip(points, settings, strict=True))
    return f'<table id="points">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>'


def _columns(swept: Swept) -> list[Column]:
    knobs = [knob for knob, values in swept.knobs.items() if len(values) > 1]
    return [
        Column("rank", "rank", "of the points that are stable and meet the constraints"),
        Column("n", "#", "of the first measurement"),
        Column("state", "state", numeric=False),
        Column("throughput", "inferences/s", "median of the windows, 95 % interval", interval=True),
        Column("p50_ms", "p50 ms", "latency"),
        Column("p99_ms", "p99 ms", "latency, 95 % interval", interval=True),
        Column("cost", "cost/million", "price of a million inferences at the machine's price per hour"),
        Column("memory_mb", "memory MB", "of the server's processes"),
        Column("load", "load", numeric=False),
        *(Column(f"knob {knob}", knob_label(knob), knob, numeric=False) for knob in knobs),
        Column("p90_ms", "p90 ms", "latency"),
        Column("p95_ms", "p95 ms", "latency"),
        Column("server_share", "server %", "the server's share of the processors", percent=True),
        Column("client_share", "client %", "the client's share of its processors", percent=True),
        Column("littles_law", "Little", "throughput times latency / concurrency: 1 where nothing is lost"),
        Column("times", "times", "how often it was measured"),
        Column("reason", "remark", numeric=False),
    ]


def _head(column: Column) -> str:
    kind = ' class="number"' if column.numeric else ""
    hint = f' title="{escape(column.hint)}"' if column.hint else ""
    return f'<th scope="col"{kind}{hint}><button type="button">{escape(column.title)}</button></th>'


def _row(columns: list[Column], row: rows.Row, values: dict[str, Value]) -> str:
    kinds = {rows.MET: "met", rows.STABLE: "met", rows.UNSURE: "unsure", rows.MISSED: "missed"}
    kind = kinds.get(row["state"], "unbelieved")
    mark = f' data-mark="{escape(row["mark"])}"' if row["mark"] else ""
    return f'<tr class="{kind}"{mark}>' + "".join(_cell(column, row, values) for column in columns) + "</tr>"


def _cell(column: Column, row: rows.Row, values: dict[str, Value]) -> str:
    if column.key.startswith("knob "):
        value = values.get(column.key.removeprefix("knob "))
        return f'<td data-v="{escape(_sortable(value))}">{escape(value_label(value))}</td>'
    found = row.get(column.key)
    if not column.numeric:
        mark = f" ({row['mark']})" if column.key == "state" and row["mark"] else ""
        return f'<td data-v="{escape(str(found or ""))}">{escape(str(found or "") + mark)}</td>'
    if found is None:
        return '<td class="number">&ndash;</td>'
    return f'<td class="number" data-v="{found!r}">{_text(column, row, found)}</td>'


def _text(column: Column, row: rows.Row, found: Json) -> str:
    if isinstance(found, int):
        return str(found)
    said = summary.number(found * 100) if column.percent else summary.number(found)
    if not column.interval:
        return said
    low, high = row[f"{column.key}_low"], row[f"{column.key}_high"]
    return f"{said} <small>{summary.number(low)}&ndash;{summary.number(high)}</small>"


def _sortable(value: Value) -> str:
    """Numbers as such, so that 16 comes after 8; what is left out comes first."""
    if value is None:
        return "-1"
    return str(int(value)) if isinstance(value, bool) else value_label(value)
