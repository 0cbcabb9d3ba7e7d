"""The table at the end of a build or a verification."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from builder.cli.console import print_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.artifacts import Json
    from builder.building import BuildResult

_MEGABYTE = 1_000_000


def render(result: BuildResult) -> None:
    """Prints one archive's stages, parity, speed and identity to stdout."""
    manifest = result.manifest
    plan = f" (a plan of {manifest.engine.runtime})" if manifest.engine else ""
    typer.echo(f"\n{manifest.name} for {manifest.target.name}{plan}: {result.status}")
    for reason in manifest.measured.reasons:
        typer.echo(f"  {reason}")
    _render_precision(manifest.model_dump(mode="json")["precision"])
    rows = [(stage, f"{seconds:.1f}") for stage, seconds in result.seconds.items()]
    print_table("\nstages", ("stage", "seconds"), [*rows, ("all", f"{sum(result.seconds.values()):.1f}")])
    measured = manifest.measured.model_dump(mode="json")
    if measured["parity"]:
        _render_parity(measured["parity"], manifest.gates.tolerances)
    if measured["perf"]:
        _render_perf(measured["perf"])
    _render_archive(result)


def _render_precision(precision: Mapping[str, Json]) -> None:
    """What the model is computed in, and how its answers changed on the way, as far as they can be asked for here."""
    if not precision:
        return
    kept = len(precision.get("kept_fp32", ()))
    more = f", {kept} operations kept in fp32" if kept else ""
    typer.echo(f"\nprecision: {precision['used']} (asked for: {precision['asked']}){more}")
    names = list(dict.fromkeys(name for line in precision["ledger"] for name in line["figures"]))
    rows = [
        (line["after"], *_cells(line["figures"], names), "" if line["within"] else "out of tolerance")
        for line in precision["ledger"]
    ]
    head = ("after", *(name.replace("_", " ") for name in names), "")
    print_table("answers of the model against the Hugging Face model's, before it is served", head, rows)


def _render_parity(parity: Mapping[str, Json], tolerances: Mapping[str, float]) -> None:
    wanted = ", ".join(f"{name} {value:g}" for name, value in tolerances.items())
    names = list(dict.fromkeys(name for way in parity["ways"].values() for name in way["figures"]))
    rows = [
        (f"asked {way}", str(seen["requests"]), *_cells(seen["figures"], names)) for way, seen in parity["ways"].items()
    ]
    for control, seen in parity["controls"].items():
        note = "  (changes no answer)" if seen["inapplicable"] else ""
        rows.append((f"control: {control}{note}", "", *_cells(seen["figures"], names)))
    title = (
        f"\nparity with the Hugging Face model on {parity['samples']} texts; tolerance: {wanted}; controls must miss it"
    )
    print_table(title, ("", "requests", *(name.replace("_", " ") for name in names)), rows)


def _cells(figures: Mapping[str, Json], names: Iterable[str]) -> list[str]:
    return [_figure(figures[name]) if name in figures else "-" for name in names]


def _figure(value: float) -> str:
    """Enough digits to tell a cosine of 0.9999999 from 1."""
    if 0.99 < value < 1:
        return f"{value:.9f}"
    return f"{value:.6g}"


def _render_perf(perf: Iterable[Mapping[str, Json]]) -> None:
    keys = ("throughput_per_second", "p50_ms", "p95_ms", "p99_ms")
    rows = [
        (str(point["concurrency"]), *(_one_decimal(point.get(key)) for key in keys), _note(point)) for point in perf
    ]
    head = ("concurrency", "per second", "p50 ms", "p95 ms", "p99 ms", "")
    print_table("\nperf_analyzer, real texts, server and client on this machine", head, rows)


def _one_decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _note(point: Mapping[str, Json]) -> str:
    return "" if point["status"] == "stable" else str(point["status"])


def _render_archive(result: BuildResult) -> None:
    archive = result.archive
    manifest_json = result.manifest.model_dump(mode="json")
    is_folder = result.manifest.archive.is_folder
    typer.echo("\nfolder" if is_folder else "\narchive")
    typer.echo(f"  path     {result.delivery.path.absolute()}")
    packed, unpacked = archive.size / _MEGABYTE, archive.unpacked_size / _MEGABYTE
    files = f"in {len(result.manifest.archive.members)} files, not packed"
    typer.echo(f"  size     {packed:.1f} MB {files if is_folder else f'packed, {unpacked:.1f} MB unpacked'}")
    typer.echo(f"  tree     sha256:{archive.tree_digest}")
    if not is_folder:
        typer.echo(f"  file     sha256:{archive.sha256}")
    _render_differences(manifest_json["verification"])


def _render_differences(verification: Mapping[str, Json]) -> None:
    """In what the server that verified differs from the one that will serve."""
    if verification["stand_ins"] or verification["overrides"]:
        typer.echo("\nverified with, instead of what serves in production")
    for stand_in in verification["stand_ins"]:
        typer.echo(f"  {stand_in['what']}: {stand_in['used']} for {stand_in['production']}")
    for override in verification["overrides"]:
        typer.echo(f"  override at load: {override}")
