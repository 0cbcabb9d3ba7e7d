"""``tritonsmith verify``: repeats the proof of an archive, or proves archives on a host's contract."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from builder.contracting import Contracted
    from builder.verify.contract import Proven

ARCHIVE_HELP = "The archive, or folder of s3-prefix; what was built with it lies beside. With --contract: one or more."
CONTRACT_HELP = "Go through a host's contract with Triton's own front end for it, instead of measuring."
_SEEN = 80  # characters of what was seen, where it is what was expected
TRUST_HELP = "First check that one of the public keys in this file signed the archives and all that lies beside them."
ENV_HELP = "With --contract: a variable of the host's container; may be repeated."


def verify(
    archives: Annotated[list[Path], typer.Argument(metavar="ARCHIVE...", help=ARCHIVE_HELP, show_default=False)],
    contract: Annotated[Literal["sagemaker-mme", "sagemaker"] | None, typer.Option(help=CONTRACT_HELP)] = None,
    trust: Annotated[Path | None, typer.Option(metavar="KEYFILE", help=TRUST_HELP, dir_okay=False)] = None,
    environment: Annotated[list[str] | None, typer.Option("--env", metavar="KEY=VALUE", help=ENV_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell more on stderr.")] = False,
) -> None:
    """Unpack an archive, serve it, compare its answers with the expected ones, and measure it again.

    A folder (the format s3-prefix) is served where it lies, after each of its files was checked.

    With --contract, archives are proven on what SageMaker does with them: exit code 1 if a check fails, 4 if nothing
    to compare answers with lies beside an archive.

    Python steps of the archive run on this machine, as you: verify only archives that you trust.
    """
    if trust is not None:
        _trust(archives, trust)
    if contract is not None:
        _prove(contract, archives, environment or [], as_json=as_json, verbose=verbose)
    if len(archives) > 1 or environment:
        raise typer.BadParameter("several archives and --env are for --contract", param_hint="ARCHIVE")
    from builder import proving
    from builder.admitting import admit
    from builder.cli.console import console, print_json
    from builder.cli.report import render
    from builder.results import exit_code

    with console(verbose=verbose) as shown:
        admit(archives[0])
        result = proving.verify(archives[0], reporter=shown)
    if as_json:
        print_json(result.as_json())
    else:
        render(result)
    raise typer.Exit(exit_code([result]))


def _trust(archives: list[Path], keys: Path) -> None:
    from builder.package import check_trust

    for path in archives:
        typer.echo(f"{path.name}: signed by {check_trust(path, keys)}", err=True)


def _prove(contract: str, archives: list[Path], environment: list[str], *, as_json: bool, verbose: bool) -> None:
    from builder import contracting
    from builder.cli.console import console, print_json
    from builder.cli.lint import variable

    with console(verbose=verbose):
        result = contracting.prove(contract, archives, dict(map(variable, environment)))
    if as_json:
        print_json(result.as_json())
    else:
        _render(result)
    raise typer.Exit(result.exit_code)


def _render(result: Contracted) -> None:
    for one in result.proven:
        _render_one(one)
    failed = sum(not check.passed for one in result.proven for check in one.checks)
    total = sum(len(one.checks) for one in result.proven)
    typer.echo(f"\n{result.contract}: {total - failed} of {total} checks passed")


def _render_one(one: Proven) -> None:
    typer.echo(f"\n{one.archive.name if one.archive is not None else 'the front end itself'}")
    widths = [
        max(len(text) for text in column) for column in zip(*((c.name, c.expected) for c in one.checks), strict=True)
    ]
    for check in one.checks:
        seen = check.seen if not check.passed or len(check.seen) <= _SEEN else check.seen[: _SEEN - 1] + "…"
        mark = "ok    " if check.passed else "FAILED"
        typer.echo(f"  {mark}  {check.name:<{widths[0]}}  {check.expected:<{widths[1]}}  {seen}".rstrip())
