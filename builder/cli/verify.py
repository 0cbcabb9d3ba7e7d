"""``tritonsmith verify``: repeats the proof of an archive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(
    archive: Annotated[Path, typer.Argument(help="The archive; manifest, samples and answers lie beside it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell more on stderr.")] = False,
) -> None:
    """Unpack an archive, serve it, compare its answers with the expected ones, and measure it again.

    Python steps of the archive run on this machine, as you: verify only archives that you trust.
    """
    from builder import building
    from builder.cli.console import console, print_json
    from builder.cli.report import render

    with console(verbose=verbose) as shown:
        result = building.verify(archive, reporter=shown)
    if as_json:
        print_json(result.as_json())
    else:
        render(result)
    raise typer.Exit(building.exit_code([result]))
