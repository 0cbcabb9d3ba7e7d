"""``tritonsmith handoff``: a release folder for a host, and sending it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from builder.artifacts import Json
    from builder.handoff import HandedOff
    from builder.handoff.deploy import Deployed

ARCHIVES_HELP = "Archives, or folders of the format s3-prefix; what lies beside them is needed."
TO_HELP = "The host."
OUT_HELP = "Where the release folder is made."
RECIPE_HELP = "Take the section handoff of this file, and not that of the recipe that the archives were built from."
SET_HELP = "Override a value of that section; may be repeated."
UNVERIFIED_HELP = "Hand off archives that nobody could prove, too."
DEPLOY_HELP = "Upload the archives and send the requests, with the credentials that boto3 finds; wait until it serves."
INSTANCES_HELP = "A table of instance types and prices, written over tritonsmith's own."


def handoff(  # noqa: PLR0913 - one argument for each option
    archives: Annotated[list[Path], typer.Argument(help=ARCHIVES_HELP)],
    to: Annotated[Literal["sagemaker"], typer.Option("--to", help=TO_HELP)],
    out: Annotated[Path, typer.Option("--out", "-o", help=OUT_HELP)] = Path("dist"),
    recipe: Annotated[Path | None, typer.Option(help=RECIPE_HELP)] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=SET_HELP)] = None,
    unverified: Annotated[bool, typer.Option("--unverified", help=UNVERIFIED_HELP)] = False,
    instances: Annotated[Path | None, typer.Option(help=INSTANCES_HELP)] = None,
    deploy: Annotated[bool, typer.Option("--deploy", help=DEPLOY_HELP)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell more on stderr.")] = False,
) -> None:
    """Write what a host needs to serve archives: requests, a template, a client, checked offline.

    Nothing is sent without --deploy. What is there already is never replaced; when a step fails, what was made is
    removed again.
    """
    from builder.admitting import admit
    from builder.cli.console import console, print_json
    from builder.handoff import hand_off

    with console(verbose=verbose):
        for path in archives:
            admit(path, hosted=True)
        made = hand_off(
            archives, out, recipe=recipe, overrides=overrides or (), unverified=unverified, instances=instances
        )
        sent = _deploy(made) if deploy else None
    if as_json:
        print_json(_facts(made, to, sent))
    else:
        _render(made, sent)


def _deploy(made: HandedOff) -> Deployed:
    from builder.handoff.deploy import deploy
    from builder.tools.aws import connect

    return deploy(made.plan, made.shipped, connect(made.plan.region))


def _facts(made: HandedOff, to: str, sent: Deployed | None) -> Json:
    return {
        "to": to,
        "folder": str(made.folder),
        "uploads": [{"file": one.file, "uri": one.uri, "sha256": one.sha256} for one in made.plan.uploads],
        "calls": [{"service": one.service, "operation": one.operation, "name": one.name} for one in made.plan.calls],
        **({"deployed": {"made": sent.made, "found": sent.found}} if sent else {}),
        "advice": [{"rule": one.rule, "where": one.where, "message": one.message} for one in made.advice],
    }


def _render(made: HandedOff, sent: Deployed | None) -> None:
    for one in made.advice:
        typer.echo(one.text, err=True)
    typer.echo(f"release  {made.folder}")
    for upload in made.plan.uploads:
        typer.echo(f"upload   {upload.uri}")
    for call in made.plan.calls:
        typer.echo(f"call     {call.operation} {call.name}")
    for name in sent.made if sent else ():
        typer.echo(f"made     {name}")
    for name in sent.found if sent else ():
        typer.echo(f"found    {name}")
