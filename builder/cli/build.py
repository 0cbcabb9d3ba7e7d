"""``tritonsmith build``: recipes → verified archives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from builder.cli.plan import SET_HELP
from builder.errors import EXIT_INTERNAL_ERROR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import Json
    from builder.core.graph import Limits


MOST_JOBS: Final = 4
JOBS_HELP: Final = (
    "Stages side by side, as far as memory allows.  [default: one for each CPU that may be used, "
    f"{MOST_JOBS} at most: each may import torch once]"
)

SIGN_HELP: Final = "Sign with this OpenSSH private key (its file); comes before the recipe's."


def build(  # noqa: PLR0913 - the options of the command
    recipes: Annotated[list[Path], typer.Argument(metavar="RECIPE...", help="Recipe files.", show_default=False)],
    target: Annotated[list[str] | None, typer.Option(help="Only this target; may be repeated.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=SET_HELP)] = None,
    out: Annotated[Path, typer.Option(help="Folder for archives.", file_okay=False)] = Path("dist"),
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not serve, compare or measure.")] = False,
    sign: Annotated[Path | None, typer.Option(metavar="KEY", help=SIGN_HELP, dir_okay=False)] = None,
    jobs: Annotated[int | None, typer.Option(min=1, metavar="N", help=JOBS_HELP, show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell more on stderr.")] = False,
) -> None:
    """Build the archives of the recipes, prove each on a real tritonserver, and measure it."""
    from builder import building
    from builder.cli.console import console, print_json
    from builder.cli.report import render
    from builder.recipe import load

    loaded = [load(path, overrides or ()) for path in recipes]
    with console(verbose=verbose) as shown:
        built = building.build_all(
            loaded, target or (), out=out, verify=not no_verify, sign=sign, limits=_limits(jobs), reporter=shown
        )
    if as_json:
        told = {"failed": _failures(built.failed), "blocked": _failures(built.blocked)}
        print_json({"archives": [result.as_json() for result in built.results], **told})
    else:
        for result in built.results:
            render(result)
    for node, error in built.blocked.items():
        typer.echo(f"tritonsmith: blocked: {node}: {error}", err=True)
    if built.failed:
        gravest = max(built.failed, key=lambda node: getattr(built.failed[node], "exit_code", EXIT_INTERNAL_ERROR))
        for node, failure in built.failed.items():
            if node != gravest:
                typer.echo(f"tritonsmith: {node}: {failure}", err=True)
        if sum(len(one.targets) for one in loaded) > 1:  # the error itself does not say whose it is
            typer.echo(f"tritonsmith: failed: {gravest}", err=True)
        raise built.failed[gravest]
    raise typer.Exit(building.exit_code(built.results, asked_unverified=no_verify, blocked=bool(built.blocked)))


def _limits(jobs: int | None) -> Limits:
    from builder.core.graph import Limits
    from builder.tools import hardware, memory

    jobs = jobs or min(MOST_JOBS, max(1, int(hardware.cpus())))
    return Limits() if jobs == 1 else Limits(jobs, memory.free() * 9 // 10)


def _failures(errors: Mapping[str, Exception]) -> list[Json]:
    return [
        {"node": node, "message": getattr(error, "message", str(error)), "mend": getattr(error, "mend", "")}
        for node, error in errors.items()
    ]
