"""``tritonsmith store stats|verify|gc``: what builds have made and kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.errors import EXIT_GATE_FAILED, UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.core.store import Store

app = typer.Typer(
    help="What builds have made and kept, in the user's cache.", no_args_is_help=True, rich_markup_mode=None
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


@app.command()
def stats(as_json: JsonFlag = False) -> None:
    """Count what is kept, by stage."""
    from dataclasses import asdict

    from builder.cli.console import print_json, print_table
    from builder.core.collect import statistics

    found = statistics(_store())
    if as_json:
        print_json(asdict(found))
        return
    typer.echo(f"{found.folder}: {_size(found.size)} in {found.blobs} files, {found.records} stage outputs")
    rows = [
        (stage, f"{facts['records']:.0f}", _size(facts["size"]), f"{facts['seconds']:.1f}")
        for stage, facts in found.stages.items()
    ]
    print_table("", ("stage", "kept", "size", "seconds it took"), rows)
    typer.echo(f"referred to by nothing: {_size(found.unreferenced)}; tritonsmith store gc removes it")


@app.command()
def verify(as_json: JsonFlag = False) -> None:
    """Read everything; what is damaged is removed and is made again by the next build. Exit 1 if anything was."""
    from builder.cli.console import console, print_json
    from builder.core.collect import verify

    with console():
        found = verify(_store())
    if as_json:
        print_json({name: _plain(getattr(found, name)) for name in found.__slots__} | {"clean": found.is_clean})
    else:
        typer.echo(f"read {found.blobs} files, {_size(found.size)}, and {found.records} stage outputs")
        for path in found.damaged:
            typer.echo(f"damaged, removed: {path}")
        for what in found.missing:
            typer.echo(f"incomplete, removed: {what}")
        if found.is_clean:
            typer.echo("all is as it should be")
    if not found.is_clean:
        raise typer.Exit(EXIT_GATE_FAILED)


@app.command()
def gc(
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Remove what was not used for this long: 30d, 12h, 45m.")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Remove the least recently used until this is left: 20G, 500M.")
    ] = None,
    keep: Annotated[
        list[Path] | None,
        typer.Option(metavar="RECIPE", help="Remove all that this recipe does not reach; may be repeated."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Remove what nobody needs. Without an option: what no stage output refers to. Never what a running build uses."""
    from dataclasses import asdict

    from builder.cli.console import console, print_json
    from builder.core.collect import Rule, collect

    rule = Rule(
        older_than_seconds=None if older_than is None else _amount(older_than, _SECONDS, "--older-than", "30d"),
        max_size=None if max_size is None else int(_amount(max_size, _BYTES, "--max-size", "20G")),
        keep=None if keep is None else _reached(keep),
    )
    with console():
        done = collect(_store(), rule)
    if as_json:
        print_json(asdict(done))
        return
    typer.echo(f"removed {done.records} stage outputs and {done.blobs} files: {_size(done.freed)}")
    if done.in_use:
        typer.echo(f"left alone, because a running build uses them: {done.in_use} stage outputs")
    typer.echo(f"left: {_size(done.left)}")


def _store() -> Store:
    from builder.core.store import NAME, Store
    from builder.settings import settings

    return Store.at(settings().cache / NAME)


def _reached(recipes: list[Path]) -> frozenset[str]:
    from builder import building
    from builder.recipe import load

    return building.reached([load(path) for path in recipes])


def _amount(text: str, units: Mapping[str, int], option: str, example: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    unit = match[2].removesuffix("B") if match else ""
    if match is None or unit not in units:
        allowed = ", ".join(repr(unit) for unit in units if unit)
        raise UserError(
            f"{option}: {text!r} is not an amount; allowed: a number with one of {allowed}",
            mend=f"write for example {example}",
        )
    return float(match[1]) * units[unit]


def _size(size: float) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} B"


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
