"""``tritonsmith build``: recipes → verified archives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.plan import SET_HELP


def build(
    recipes: Annotated[list[Path], typer.Argument(metavar="RECIPE...", help="Recipe files.", show_default=False)],
    target: Annotated[list[str] | None, typer.Option(help="Only this target; may be repeated.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=SET_HELP)] = None,
    out: Annotated[Path, typer.Option(help="Folder for archives.", file_okay=False)] = Path("dist"),
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not serve, compare or measure.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell more on stderr.")] = False,
) -> None:
    """Build the archives of the recipes, prove each on a real tritonserver, and measure it."""
    from builder import pipeline
    from builder.cli.console import console, print_json
    from builder.cli.report import render
    from builder.recipe import load

    loaded = [load(path, overrides or ()) for path in recipes]
    for recipe in loaded:
        pipeline.selected_targets(recipe, target or ())
    with console(verbose=verbose) as shown:
        results = [
            result
            for recipe in loaded
            for result in pipeline.build(recipe, target or (), out=out, verify=not no_verify, reporter=shown)
        ]
    if as_json:
        print_json({"archives": [result.as_json() for result in results]})
    else:
        for result in results:
            render(result)
    raise typer.Exit(pipeline.exit_code(results, asked_unverified=no_verify))
