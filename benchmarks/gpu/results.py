"""The figures: what a row's throughput is, its ratio to the base, and how all of it is written down."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.matrix import BASE, GOAL_TIMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

MEASURED, NOT_RUN, FAILED, PENDING = "measured", "not-run", "failed", "pending"
NAME = "gpu"


@dataclass(frozen=True)
class Outcome:
    """A row as it was found. Of an unmeasured one, ``reason`` says why."""

    case: str
    row: str
    about: str
    status: str
    reason: str = ""
    points: tuple[dict[str, Any], ...] = ()  # one for each concurrency that was tried
    parity: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)  # instance kind, load time, batches that formed
    seconds: float = 0.0  # that all of it took

    @property
    def key(self) -> str:
        return f"{self.case}/{self.row}"


@dataclass(frozen=True)
class Best:
    """A row's throughput: the best over concurrencies whose p99 is allowed."""

    throughput_per_second: float
    p99_ms: float
    concurrency: int


def best(points: Iterable[dict[str, Any]], p99_limit_ms: float | None = None) -> Best | None:
    """The stable point of highest throughput; None where none keeps the limit."""
    stable = [point for point in points if point["status"] == "stable"]
    kept = [point for point in stable if p99_limit_ms is None or point["p99_ms"] <= p99_limit_ms]
    if not kept:
        return None
    top = max(kept, key=lambda point: point["throughput_per_second"])
    return Best(top["throughput_per_second"], top["p99_ms"], top["concurrency"])


def bases(outcomes: Iterable[Outcome]) -> dict[str, Best]:
    """For each case, its base at its own best: no other row may have a worse p99."""
    found = {one.case: best(one.points) for one in outcomes if one.row == BASE and one.status == MEASURED}
    return {case: base for case, base in found.items() if base is not None}


def to_json(outcomes: Sequence[Outcome], facts: dict[str, Any]) -> dict[str, Any]:
    """All of it as one document, with what follows from the figures."""
    base = bases(outcomes)
    return {
        "schema": 1,
        **facts,
        "goal_times_base": GOAL_TIMES,
        "rows": [{**asdict(one), **_derived(one, base.get(one.case))} for one in outcomes],
    }


def _derived(one: Outcome, base: Best | None) -> dict[str, Any]:
    if one.status != MEASURED:
        return {"best": None, "times_base": None}
    top = best(one.points, base.p99_ms if base else None)
    if top is None:
        note = f"no point keeps the base's p99 of {base.p99_ms:.1f} ms" if base else "no stable point"
        return {"best": None, "times_base": None, "note": note}
    times = round(top.throughput_per_second / base.throughput_per_second, 2) if base else None
    return {"best": asdict(top), "times_base": times}


def from_json(document: dict[str, Any]) -> list[Outcome]:
    """The rows of a document that an earlier call wrote."""
    names = Outcome.__dataclass_fields__
    return [
        Outcome(**{**{name: row[name] for name in names}, "points": tuple(row["points"])}) for row in document["rows"]
    ]


def read(folder: Path) -> dict[str, Any] | None:
    """What an earlier call wrote into a folder."""
    path = folder / f"{NAME}.json"
    document: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return document


def write(document: dict[str, Any], folder: Path) -> None:
    """Writes ``gpu.json`` and ``gpu.md``, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, text in (("json", json.dumps(document, indent=1) + "\n"), ("md", to_markdown(document))):
        path = folder / f"{NAME}.{suffix}"
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)  # noqa: PTH105 - says that it replaces


def to_markdown(document: dict[str, Any]) -> str:
    """One table for each case."""
    lines = [f"# {document['title']}", "", document["about"], ""]
    rows = document["rows"]
    for case in dict.fromkeys(row["case"] for row in rows):
        lines += [
            f"## {case}",
            "",
            "| row | what | inferences/s | concurrency | p99 ms | times pt-base | parity |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        lines += [_line(row) for row in rows if row["case"] == case]
        lines += ["", _verdict([row for row in rows if row["case"] == case]), ""]
    host = document["host"]
    lines += [f"Machine: {', '.join(f'{key} {value}' for key, value in host.items() if value)}.", ""]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    cells = [row["row"], row["about"]]
    if row["status"] != MEASURED:
        cells += [f"*{row['status']}*: {row['reason'].replace('|', '/')}", "", "", "", ""]
    elif row["best"] is None:
        cells += [row.get("note", "no stable point"), "", "", "", _parity(row["parity"])]
    else:
        top, times = row["best"], row["times_base"]
        cells += [
            f"{top['throughput_per_second']:.1f}",
            str(top["concurrency"]),
            f"{top['p99_ms']:.1f}",
            f"{times:.2f}" if times is not None else "no base",
            _parity(row["parity"]),
        ]
    return f"| {' | '.join(cells)} |"


def _parity(parity: dict[str, Any]) -> str:
    if not parity:
        return ""
    text = f"{parity['smallest_cosine']:.6f}"
    return text if parity["within"] else f"**out of tolerance** ({text}; {parity['why']})"


def _verdict(rows: list[dict[str, Any]]) -> str:
    """Which row is best; one whose answers are wrong counts for nothing."""
    counted = [row for row in rows if row["times_base"] and row["parity"].get("within")]
    if not counted:
        return f"Goal, {GOAL_TIMES} times pt-base: nothing to judge yet."
    top = max(counted, key=lambda row: row["times_base"])
    reached = "reached" if top["times_base"] >= GOAL_TIMES else "missed"
    return f"Goal, {GOAL_TIMES} times pt-base: {reached}; best is {top['row']} with {top['times_base']:.2f} times."
