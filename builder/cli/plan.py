"""``tritonsmith plan``: what would run, in order, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.errors import EXIT_DONE, EXIT_GATE_FAILED

if TYPE_CHECKING:
    from builder.building import PlannedNode

CHECK_HELP = "Exit with 1 if anything would run."
SET_HELP = "Override a recipe value, e.g. serving.max_batch_size=64; may be repeated."


def plan(
    recipes: Annotated[list[Path], typer.Argument(metavar="RECIPE...", help="Recipe files.", show_default=False)],
    target: Annotated[list[str] | None, typer.Option(help="Only this target; may be repeated.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=SET_HELP)] = None,
    check: Annotated[bool, typer.Option("--check", help=CHECK_HELP)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")] = False,
) -> None:
    """Show the stages of each recipe in order: what would run, what is blocked, and why.

    hit: in the store. run: would run. depends: known once a stage before it has run. blocked: something is missing.
    """
    from builder import building
    from builder.cli.console import print_json
    from builder.core.codec import to_json
    from builder.recipe import load

    loaded = [load(path, overrides or ()) for path in recipes]
    nodes = list(building.plan(loaded, target or ()))
    if as_json:
        print_json({"nodes": [to_json(node) for node in nodes]})
    else:
        _render(nodes)
    raise typer.Exit(EXIT_GATE_FAILED if check and any(node.state != "hit" for node in nodes) else EXIT_DONE)


def _render(nodes: list[PlannedNode]) -> None:
    width = max(len(node.node) for node in nodes)
    for node in nodes:
        typer.echo(f"{node.node:<{width}}  {node.state:<8} {node.why}".rstrip())
    states = [node.state for node in nodes]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    typer.echo(f"{len(nodes)} stages: {counts}")
