"""``tritonsmith lint``: will it load, can it be hosted, is it wise? Needs no server and no GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from builder.errors import EXIT_DONE, EXIT_GATE_FAILED, UserError

if TYPE_CHECKING:
    from builder.lint import Options, Report
    from builder.lint.fix import Fixed

PATH_HELP = (
    "A recipe, a model repository, a model folder, an archive or a release folder. With --host: what the archive holds "
    "at its root."
)
HOST_HELP = "Also ask what this host wants; of an archive, by default the one that its manifest states."
ENV_HELP = "A variable of the host's container; may be repeated."
RELEASE_HELP = "The Triton release that is to load it; by default 25.09."
STRICT_HELP = "The server runs with --disable-auto-complete-config."
RECIPES = (".yaml", ".yml")
FIX_HELP = "Mend what is mechanical, in place, and show what is left."


def lint(  # noqa: PLR0913 - one argument for each option
    path: Annotated[Path | None, typer.Argument(help=PATH_HELP, show_default=False)] = None,
    host: Annotated[Literal["sagemaker", "sagemaker-mme"] | None, typer.Option(help=HOST_HELP)] = None,
    release: Annotated[str | None, typer.Option(metavar="YY.MM", help=RELEASE_HELP)] = None,
    environment: Annotated[list[str] | None, typer.Option("--env", metavar="KEY=VALUE", help=ENV_HELP)] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="How many GPUs the server has, if known.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help=STRICT_HELP)] = False,
    mend: Annotated[bool, typer.Option("--fix", help=FIX_HELP)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")] = False,
    as_sarif: Annotated[bool, typer.Option("--sarif", help="Print SARIF 2.1.0 to stdout.")] = False,
    explain: Annotated[
        str | None, typer.Option(metavar="RULE", help="Say what a rule wants, why, and who says so.")
    ] = None,
) -> None:
    """Say whether a model repository will load, without a server and without a GPU.

    One line per finding: rule, class, place, what is wrong and how to mend it. Exit code 1 if there is a load-error
    or a hosting-error.
    """
    if explain is not None:
        from builder.lint.explain import explain as in_words

        typer.echo(in_words(explain))
        raise typer.Exit(EXIT_DONE)
    if path is None:
        raise typer.BadParameter("name what is to be linted", param_hint="PATH")
    if as_json and as_sarif:
        raise typer.BadParameter("--json and --sarif exclude each other")
    options = _options(path, host, release, environment, gpus, strict=strict)
    report, mended = _run(path, options, mend=mend)
    if as_sarif:
        from builder.cli.console import print_json
        from builder.lint.sarif import to_sarif

        print_json(to_sarif(report, "" if path.suffix in RECIPES else str(path)))
    elif as_json:
        _render_json(report, mended)
    else:
        _render(report, mended)
    raise typer.Exit(EXIT_GATE_FAILED if report.errors else EXIT_DONE)


def _run(path: Path, options: Options, *, mend: bool) -> tuple[Report, tuple[Fixed, ...]]:
    from builder.cli.console import console
    from builder.lint import lint as run

    with console():
        if not mend:
            return run(path, options), ()
        from builder.lint.fix import fix

        mended = fix(path, options)
        return run(path, options), mended


def _options(
    path: Path,
    host: str | None,
    release: str | None,
    environment: list[str] | None,
    gpus: int | None,
    *,
    strict: bool,
) -> Options:
    from dataclasses import replace

    from builder.lint.options import AUTO_COMPLETE, STRICT
    from builder.tools import releases

    known = _known(path)
    given = tuple(variable(text) for text in environment or ())
    if host in {None, known.host}:
        given = tuple({**dict(known.environment), **dict(given)}.items())
    return replace(
        known,
        mode=STRICT if strict else AUTO_COMPLETE,
        release=releases.release(release).name if release else known.release,
        host=host or known.host,
        environment=given,
        gpus=gpus,
        explicit=bool(host or known.host),
    )


def _known(path: Path) -> Options:
    """What the manifest beside an archive says; what lint assumes, where there is none."""
    from builder.lint import Options

    # Repositories of others are many, and have no manifest: for them, nothing more is imported.
    if path.suffix in RECIPES or not (path.is_file() or Path(f"{path.absolute()}.manifest.json").is_file()):
        return Options()
    from builder.admitting import options

    return options(path)


def variable(text: str) -> tuple[str, str]:
    """Splits KEY=VALUE.

    Raises:
        UserError: it is none.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--env {text!r}: is not KEY=VALUE", mend="write --env KEY=VALUE")
    return key, value


def _render(report: Report, mended: tuple[Fixed, ...]) -> None:
    for one in mended:
        typer.echo(f"{one.rule} mended {one.path} {one.what}")
    for found in report.findings:
        typer.echo(found.text)
    typer.echo(_summary(report), err=True)


def _render_json(report: Report, mended: tuple[Fixed, ...]) -> None:
    from dataclasses import asdict

    from builder.cli.console import print_json

    print_json(
        {
            "findings": [asdict(found) for found in report.findings],
            "mended": [asdict(one) for one in mended],
            "models": report.models,
            "errors": len(report.errors),
        }
    )


def _summary(report: Report) -> str:
    counts = [found.severity for found in report.findings]
    words = ", ".join(f"{counts.count(name)} {name}" for name in dict.fromkeys(sorted(counts)))
    looked_at = f"{report.models} models: " if report.models else ""  # a recipe and a release folder hold none
    return looked_at + (words or "nothing found")
