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
    from builder.cli.console import print_json
    from builder.settings import settings
    from builder.tools import toolchain

    found = toolchain.status(settings().cache)
    facts = {
        "installed": found is not None,
        "folder": str(found.root) if found else None,
        "tritonserver": toolchain.SERVER_VERSION,
        "perf_analyzer": toolchain.PERF_ANALYZER_VERSION,
    }
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        typer.echo(f"{name:<14} {_word(value)}")


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)
