"""The best settings as plain text: for the terminal, and as Markdown for the summary of a CI run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from builder.sweep.report import summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.sweep.swept import Swept

Table = tuple["Sequence[str]", "Sequence[Sequence[str]]"]
"""Titles, and rows of cells."""


def terminal(swept: Swept, most: int = 10) -> str:
    """The ranking's top, the winner and its gain, and why points were left out; lines end with a newline.

    Args:
        swept: the result.
        most: how many settings are listed.
    """
    titles, found = _ranking(swept, most)
    lines = [f"{swept.served.name}: {summary.aim(swept)}", ""]
    lines += _aligned(titles, found) if found else [_nothing(swept)]
    lines += [f"… and {len(swept.ranking) - most} more"] if len(swept.ranking) > most else []
    lines += ["", *_winner(swept)]
    lines += [f"baseline: {summary.verdict(one)}" for one in swept.verdicts]
    lines += [f"{summary.counts(swept)}; {summary.effort(swept)}"]
    lines += [f"  {at} {why}" for at, why in summary.left_out(swept)]
    return "".join(f"{line.rstrip()}\n" for line in map(_printable, lines))


def markdown(swept: Swept, most: int = 10) -> str:
    """The same as Markdown; lines end with a newline."""
    titles, found = _ranking(swept, most)
    lines = [f"### Sweep of {_escaped(swept.served.name)}: {_escaped(summary.aim(swept))}", ""]
    if found:
        lines += [_row(titles), _row(["---"] * len(titles)), *map(_row, found)]
    else:
        lines += [_escaped(_nothing(swept))]
    lines += ["", *(_escaped(line) for line in _winner(swept)), ""]
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
    titles = [
        "rank",
        "point",
        "inferences/s",
        "95 %",
        "p50 ms",
        "p99 ms",
        "cost/million",
        "memory MB",
        "load",
        "setting",
    ]
    found = [_cells(swept, rank, at) for rank, at in enumerate(swept.ranking[:most], 1)]
    kept = [
        at
        for at, title in enumerate(titles)
        if (title != "load" or loads) and (not found or any(row[at] for row in found))
    ]
    return [titles[at] for at in kept], [[row[at] for at in kept] for row in found]


def _cells(swept: Swept, rank: int, at: int) -> list[str]:
    point = swept.tried[at].point
    numbers = [point.figure("p50_ms"), point.figure("p99_ms"), swept.cost(point), point.memory_mb]
    through = point.throughput
    return [
        str(rank),
        f"#{at + 1}" + (" as it is" if at == swept.as_it_is else ""),
        summary.number(through.value) if through else "",
        f"{summary.number(through.low)}–{summary.number(through.high)}" if through else "",
        *("" if value is None else summary.number(value) for value in numbers),
        point.load.label,
        swept.varies(point.setting).label,
    ]


def _winner(swept: Swept) -> list[str]:
    winner = swept.winner
    if winner is None:
        return []
    best = f"best: {swept.varies(winner.point.setting).label}, at {winner.point.load.label}"
    return [best, *([said] if (said := summary.gain(swept)) else [])]


def _nothing(swept: Swept) -> str:
    return "No setting is stable and holds the constraints." if swept.tried else "Nothing was measured."


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
