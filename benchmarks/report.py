"""Results as values: what was compared, against which goal, and how they are written (JSON and Markdown)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.statistics import CONFIDENCE, Estimate, paired_ratio

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Goal:
    """What was to be reached: a ratio to the peer (``kind="ratio"``), or a figure of tritonsmith's own (``"value"``).

    A ratio is to be at least ``limit`` (above it, if ``strict``); a value at most ``limit``, in the row's unit.
    """

    kind: str
    limit: float
    strict: bool = False

    def __str__(self) -> str:
        if self.kind == "value":
            return f"at most {self.limit:g}"
        return f"{'above' if self.strict else 'at least'} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One row: the same thing measured on both sides, one figure a round each.

    The ratio says how many times better tritonsmith is, whether the figure is to be large (inferences/s) or small
    (seconds, bytes): above 1, tritonsmith is ahead.
    """

    what: str
    unit: str
    peer_name: str
    ours: tuple[float, ...]
    peer: tuple[float, ...]
    larger_is_better: bool = False
    goal: Goal | None = None
    dropped_rounds: int = 0  # rounds in which a side gave no stable figure
    ratio: Estimate = field(init=False)

    def __post_init__(self) -> None:
        above, below = (self.ours, self.peer) if self.larger_is_better else (self.peer, self.ours)
        object.__setattr__(self, "ratio", paired_ratio(above, below))

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the goal; None without a goal."""
        if self.goal is None:
            return None
        if self.goal.kind == "value":
            return median(self.ours) <= self.goal.limit
        return self.ratio.median > self.goal.limit if self.goal.strict else self.ratio.median >= self.goal.limit

    @property
    def verdict(self) -> str:
        """``met`` or ``missed``; said to be uncertain where the ratio's interval holds the goal."""
        if self.goal is None or self.met is None:
            return ""
        uncertain = self.goal.kind == "ratio" and self.ratio.low < self.goal.limit < self.ratio.high
        return ("met" if self.met else "missed") + (", within the interval" if uncertain else "")

    def to_json(self) -> dict[str, Any]:
        """All of it, with the medians and the verdict."""
        return {
            **asdict(self),
            "ours_median": median(self.ours),
            "peer_median": median(self.peer),
            "confidence": CONFIDENCE,
            "met": self.met,
        }


@dataclass(frozen=True, slots=True)
class Result:
    """One benchmark's outcome."""

    name: str
    title: str
    about: str  # what both sides did, as a paragraph of Markdown
    comparisons: tuple[Comparison, ...]
    machine: dict[str, Any]
    settings: dict[str, Any]
    raw: tuple[dict[str, Any], ...] = ()  # every single measurement, in the order in which it was taken

    def write(self, folder: Path) -> None:
        """Writes ``<name>.json`` and ``<name>.md``."""
        folder.mkdir(parents=True, exist_ok=True)
        data = {
            "name": self.name,
            "title": self.title,
            "about": self.about,
            "comparisons": [row.to_json() for row in self.comparisons],
            "machine": self.machine,
            "settings": self.settings,
            "raw": list(self.raw),
        }
        text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / f"{self.name}.json").write_text(text + "\n", encoding="utf-8")
        (folder / f"{self.name}.md").write_text(self.to_markdown(), encoding="utf-8")

    def to_markdown(self) -> str:
        """A heading, what was compared, the table, and the machine."""
        machine = {key: value for key, value in self.machine.items() if key != "versions"}
        facts = [
            f"Settings: {_listed(self.settings)}.",
            f"Machine: {_listed(machine)}.",
            f"Versions: {_listed(self.machine['versions'])}.",
        ]
        return "\n\n".join([f"# {self.title}", self.about, self.table(), *facts]) + "\n"

    def table(self) -> str:
        """The comparisons as a Markdown table."""
        head = ("what", "tritonsmith", "peer", "times better", f"{CONFIDENCE:.0%} interval", "rounds", "goal", "")
        lines = [_line(head), _line(("---",) * len(head)), *(_line(_cells(row)) for row in self.comparisons)]
        return "\n".join(lines)


def _cells(row: Comparison) -> tuple[str, ...]:
    return (
        row.what,
        f"{_figure(median(row.ours))} {row.unit}",
        f"{_figure(median(row.peer))} {row.unit} ({row.peer_name})",
        f"**{_figure(row.ratio.median)}**",
        f"{_figure(row.ratio.low)} to {_figure(row.ratio.high)}",
        f"{row.ratio.count}" + (f" ({row.dropped_rounds} unstable)" if row.dropped_rounds else ""),
        str(row.goal or ""),
        row.verdict,
    )


def _listed(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in facts.items())


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _figure(value: float) -> str:
    """Three significant digits, never in powers of ten."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")
