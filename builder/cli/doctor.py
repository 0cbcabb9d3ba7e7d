"""``tritonsmith doctor``: can this machine build, serve and measure? Checks, and says how to mend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from builder.errors import EXIT_DONE, EXIT_MACHINE_ERROR

if TYPE_CHECKING:
    from builder.tools.doctor import Finding


def doctor(
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document to stdout."),
) -> None:
    """Check this machine: Python, glibc, libpython, disk, libraries, toolchain, GPU."""
    from builder.cli.console import print_json
    from builder.settings import settings
    from builder.tools.doctor import examine

    findings = examine(settings().cache)
    if as_json:
        print_json({"findings": [finding.as_json() for finding in findings]})
    else:
        for finding in findings:
            typer.echo(_render(finding))
    raise typer.Exit(EXIT_MACHINE_ERROR if any(finding.level == "error" for finding in findings) else EXIT_DONE)


def _render(finding: Finding) -> str:
    mark = {"ok": "ok     ", "note": "note   ", "error": "ERROR  "}[finding.level]
    mend = f"\n         mend: {finding.mend}" if finding.mend else ""
    return f"{mark}{finding.subject}: {finding.fact}{mend}"
