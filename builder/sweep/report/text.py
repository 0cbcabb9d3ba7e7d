"""The best settings as plain text: for the terminal, and as Markdown for the summary of a CI run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

from builder.sweep.report import rows, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.sweep.swept import Swept, Tried

Table: TypeAlias = "tuple[Sequence[str], Sequence[Sequence[str]]]"
"""Titles, and rows of cells."""

_TITLES: Final = (
    "rank", "point", "inferences/s", "95 %", "p50 ms", "p99 ms", "cost/million", "memory MB", "remark", "load",
    "setting",
)  # fmt: skip
_WORDS: Final = {"point", "remark", "load", "setting"}


def terminal(swept: Swept, most: int = 10) -> str:
    """The ranking's top, the winner and its gain, and why points were left out; lines end with a newline.

    Args:
        swept: the result.
        most: how many settings are listed.
    """
    titles, found = _ranking(swept, most)
    lines = [f"{swept.served.name}: {summary.aim(swept)}", ""]
    lines += [*_aligned(titles, found), ""] if found else []
    lines += _winner(swept)
    lines += [f"baseline: {summary.verdict(one)}" for one in swept.verdicts]
    lines += [f"{summary.counts(swept)}; {summary.effort(swept)}"]
    lines += [f"  {at} {why}" for at, why in summary.left_out(swept)]
    return "".join(f"{line.rstrip()}\n" for line in map(_printable, lines))


def markdown(swept: Swept, most: int = 10) -> str:
    """The same as Markdown; lines end with a newline."""
    titles, found = _ranking(swept, most)
    lines = [f"### Sweep of {_escaped(swept.served.name)}: {_escaped(summary.aim(swept))}", ""]
    lines += [_row(titles), "|" + " --- |" * len(titles), *map(_row, found), ""] if found else []
    lines += [*(f"{_escaped(line)}  " for line in _winner(swept)), ""]
    lines += [f"- {_escaped(summary.verdict(one))}" for one in swept.verdicts]
    lines += ["", f"{_escaped(summary.counts(swept))}; {_escaped(summary.effort(swept))}"]
    missing = summary.left_out(swept)
    if missing:
        lines += ["", "<details><summary>Points that do not count</summary>", ""]
        lines += [*(f"- {_escaped(at)} {_escaped(why)}" for at, why in missing), "", "</details>"]
    return "".join(f"{line}\n" for line in lines)


def _ranking(swept: Swept, most: int) -> Table:
    """Only columns that say something: no price where none is known, no load where there is one alone."""
    loads = len({one.point.load for one in swept.tried}) > 1
    found = [_cells(swept, rank, one) for rank, one in enumerate(swept.ranking[:most], 1)]
    there = [title != "load" or loads for title in _TITLES]
    kept = [at for at in range(len(_TITLES)) if there[at] and any(row[at] for row in found)]
    return [_TITLES[at] for at in kept], [[row[at] for at in kept] for row in found]


def _cells(swept: Swept, rank: int, one: Tried) -> list[str]:
    point, through = one.point, one.point.throughput
    numbers = [point.figure("p50_ms"), point.figure("p99_ms"), swept.cost(point), point.memory_mb]
    return [
        str(rank) if one.verdict == "met" else "",
        rows.name(swept, one),
        summary.number(through.value) if through else "",
        f"{summary.number(through.low)} to {summary.number(through.high)}" if through else "",
        *("" if value is None else summary.number(value) for value in numbers),
        "" if one.verdict == "met" else rows.reason(swept, one),
        point.load.label,
        swept.varies(point.setting).label,
    ]


def _winner(swept: Swept) -> list[str]:
    if swept.winner is None:
        return [summary.no_winner(swept)]
    said = [f"best: {summary.winner_label(swept, swept.winner)}", summary.gain(swept)]
    return [line for line in said if line]


def _aligned(titles: Sequence[str], found: Sequence[Sequence[str]]) -> list[str]:
    """Numbers to the right, words to the left."""
    table = [titles, *found]
    widths = [max(len(row[at]) for row in table) for at in range(len(titles))]
    words = {at for at, title in enumerate(titles) if title in {"point", "load", "setting"}}
    return [
        "  ".join(
            cell.ljust(width) if at in words else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]


def _printable(line: str) -> str:
    """Without what moves a terminal's cursor or colours it: names and reasons are the user's or a server's."""
    return "".join(character if character.isprintable() else "�" for character in line)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_escaped, cells)) + " |"


def _escaped(text: str) -> str:
    r"""As plain text in Markdown: ``a|b`` → ``a\|b``; one line."""
    plain = " ".join(_printable(part) for part in text.split())
    return re.sub(r"([\\`*_\[\]<>|~])", r"\\\1", plain)
