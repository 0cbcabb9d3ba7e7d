"""``tritonsmith toolchain install|status``: the embedded tritonserver and perf_analyzer."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="The embedded tritonserver and perf_analyzer, kept in the user's cache.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def install(as_json: bool = typer.Option(False, "--json", help="Print one JSON document to stdout.")) -> None:
    """Fetch and unpack the toolchain now; a build does it on first use."""
    from builder.cli.console import console
    from builder.settings import settings
    from builder.tools import toolchain

    with console():
        toolchain.install(settings().cache)
    _show(as_json)


@app.command()
def status(as_json: bool = typer.Option(False, "--json", help="Print one JSON document to stdout.")) -> None:
    """Say whether the toolchain is installed, where, and which versions it holds."""
    _show(as_json)


def _show(as_json: bool) -> None:
    from builder.artifacts import to_json
    from builder.cli.console import print_json
    from builder.settings import settings
    from builder.tools import toolchain

    found = toolchain.status(settings().cache)
    if as_json:
        print_json(to_json(found))
        return
    typer.echo(f"toolchain      {'installed' if found.installed else 'not installed'}")
    typer.echo(f"folder         {found.folder}")
    for name, version in found.versions.items():
        typer.echo(f"{name:<14} {version}")
