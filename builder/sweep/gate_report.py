"""What CI reads of a sweep: JUnit XML and a Markdown summary, and the exit code."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from builder.errors import EXIT_DONE, EXIT_GATE_FAILED, EXIT_UNVERIFIED, disk_error
from builder.sweep.report import summary, text
from builder.tools import atomic

if TYPE_CHECKING:
    from pathlib import Path

    from builder.sweep.baseline import Held
    from builder.sweep.swept import Swept


def exit_code(swept: Swept, held: Held | None) -> int:
    """1: no setting holds the constraints, or a figure is worse than the baseline's; 4: nobody can tell."""
    if swept.winner is None or (held is not None and held.worse):
        return EXIT_GATE_FAILED
    return EXIT_UNVERIFIED if held is not None and held.unsure else EXIT_DONE


def junit(swept: Swept, held: Held | None) -> str:
    """A test for the constraints, and one for each figure that was held against the baseline's.

    A figure of which nobody can tell is skipped: it is neither passed nor failed.
    """
    won = swept.winner is not None
    cases = [("constraints", "" if won else "failure", summary.aim(swept) if won else summary.no_winner(swept))]
    for one in held.verdicts if held else ():
        kind = {"worse": "failure", "unstable": "skipped"}.get(one.verdict, "")
        reason = held.reasons.get(one.figure, "") if held else ""
        cases.append((f"baseline {one.figure}", kind, f"{summary.verdict(one)}; {_line(reason)}".rstrip("; ")))
    counted = {kind: sum(case[1] == kind for case in cases) for kind in ("failure", "skipped")}
    suite = ElementTree.Element(
        "testsuite",
        name=f"tritonsmith sweep {_line(swept.served.name)}",
        tests=str(len(cases)),
        failures=str(counted["failure"]),
        skipped=str(counted["skipped"]),
        errors="0",
        time=f"{swept.seconds:.1f}",
    )
    for name, kind, said in cases:
        case = ElementTree.SubElement(suite, "testcase", classname=f"sweep.{_line(swept.served.name)}", name=name)
        if kind:
            ElementTree.SubElement(case, kind, message=_line(said))
        else:
            ElementTree.SubElement(case, "system-out").text = _line(said)
    ElementTree.indent(suite)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(suite, encoding="unicode")}\n'


def markdown(swept: Swept, held: Held | None) -> str:
    """The ranking, and how each figure stands to the baseline's."""
    lines = [text.markdown(swept if held is None else replace(swept, verdicts=()))]
    if held is not None:  # the table says more than the lines of the ranking
        marks = {"worse": "❌", "unstable": "❔", "better": "✅", "same": "✅"}
        lines += [f"\n#### Baseline ({_cell(held.how)})\n", "| | figure | verdict | |", "|---|---|---|---|"]
        lines += [
            f"| {marks[one.verdict]} | {summary.figure_label(one.figure)} | {summary.verdict(one).partition(': ')[2]} "
            f"| {_cell(held.reasons.get(one.figure, ''))} |"
            for one in held.verdicts
        ]
    return "\n".join(lines).rstrip() + "\n"


def _line(text: str) -> str:
    """The first line, of characters that XML may hold: reasons are a server's, or its log's."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return "".join(one if one.isprintable() else "�" for one in first.strip())


def _cell(text: str) -> str:
    """The first line, as plain text in Markdown."""
    return re.sub(r"([\\`*_\[\]<>|~])", r"\\\1", _line(text))


def write_text(path: Path, content: str) -> None:
    """Writes a file, whole or not at all.

    Raises:
        MachineError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, content.encode())
    except OSError as error:
        raise disk_error(path, error) from error
