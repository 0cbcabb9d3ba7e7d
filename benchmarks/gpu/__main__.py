"""``scripts/gpu_bench --wheels DIR --work DIR --out DIR [--minutes 9] [--only PATTERN,…] [--cpu]``.

See docs/how-to/gpu.md. What an earlier call has measured is kept, and only the rest is run.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu import host, matrix, outfit, results, served
from benchmarks.gpu.results import FAILED, MEASURED, NOT_RUN, PENDING, Outcome
from benchmarks.gpu.workshop import NotRunError, Workshop
from benchmarks.progress import say
from builder.errors import EXIT_DONE, EXIT_TERMINATED, TritonsmithError
from builder.tools.perf_analyzer import Windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.gpu.matrix import Row

_FIRST_ROW_SECONDS = 45.0  # what a row may take, before one was seen
_KEEP_SECONDS = 5.0  # to end in


@dataclass(frozen=True)
class Settings:
    """How it is measured."""

    cases: tuple[matrix.Case, ...]
    concurrencies: tuple[int, ...]
    windows: Windows
    cpu: bool


GPU = Settings(matrix.CASES, matrix.CONCURRENCIES, Windows(1000, trials=6, stability_percent=15), cpu=False)
CPU = Settings(matrix.TINY, (1, 4), Windows(600, trials=3, stability_percent=1000), cpu=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what time allows; 0 also where rows failed or a goal was missed: those are results."""
    given = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))  # unwinds: servers end
    try:
        if given.pack:
            for folder, size in outfit.pack(given.wheels, given.pack, given.carry << 20).items():
                say(f"{folder}: {size / 2**20:.1f} MiB")
            return EXIT_DONE
        run(given, time.monotonic() + 60 * given.minutes)
    except TritonsmithError as error:
        sys.stderr.write(f"gpu_bench: {error}\n")
        return error.exit_code
    return EXIT_DONE


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/gpu_bench", description=__doc__, allow_abbrev=False)
    parser.add_argument("--wheels", type=Path, help="folder of wheels or parts of them (default: tritonsmith's cache)")
    parser.add_argument("--work", type=Path, default=Path("/tmp/tritonsmith-gpu"), help="folder that is kept")  # noqa: S108
    parser.add_argument("--out", type=Path, help="where gpu.json and gpu.md go (default: the work folder)")
    parser.add_argument("--minutes", type=float, default=9.0, help="when to stop (default: 9)")
    parser.add_argument("--only", default="", help="rows, as patterns: 'bert-large-128/*,*/rtx-*,pt-base'")
    parser.add_argument("--resume", type=Path, help="folder with an earlier call's gpu.json (default: --out, --work)")
    parser.add_argument("--anew", action="store_true", help="measure again what is there")
    parser.add_argument("--retry", action="store_true", help="try again what failed")
    parser.add_argument("--unpack", action="store_true", help="unpack the wheels, say what is missing, and end")
    parser.add_argument("--cpu", action="store_true", help="a tiny model on the CPU: does everything run?")
    parser.add_argument("--pack", type=Path, help="make the wheels small, in folders for one call each, and end")
    parser.add_argument("--carry", type=int, default=60, help="with --pack: MiB that a call can carry (default: 60)")
    return parser.parse_args(arguments)


def run(given: argparse.Namespace, deadline: float) -> None:
    """Measures row by row, the most important first, and writes all that is known after each.

    Raises:
        MachineError: there is no server to measure with.
    """
    settings = CPU if given.cpu else GPU
    work = given.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    dressed = outfit.of_wheels(given.wheels, work) if given.wheels else outfit.of_cache(work)
    host.let_libraries_be_found(dressed.site)
    if given.unpack:
        return
    shop = Workshop(work, dressed, settings.cpu, deadline)
    folders = [folder for folder in (given.out, work) if folder]
    notebook = Notebook(folders, shop, settings, None if given.anew else _earlier([given.resume, *folders]))
    again = (PENDING, NOT_RUN, *([FAILED] if given.retry else []))  # what was not there may have come
    only = tuple(filter(None, given.only.split(",")))
    measure_all([row for row in matrix.rows(settings.cases, only) if notebook.status(row) in again], notebook, deadline)
    sys.stdout.write("\n" + results.to_markdown(notebook.document()))


def measure_all(rows: Sequence[Row], notebook: Notebook, deadline: float) -> None:
    """Measures rows in their order as long as there is time for the next one."""
    settings, shop = notebook.settings, notebook.shop
    took: dict[str, float] = {}  # by case: seconds of the slowest row so far
    failed = notebook.failed()  # by runtime: how its first row failed; the others would take time to fail likewise
    for row in rows:
        if notebook.status(row) == FAILED:  # asked for again
            failed.pop(row.runtime.name, None)
    for row in rows:
        began = time.monotonic()
        expected = took.get(row.case.name, max(took.values(), default=0 if settings.cpu else _FIRST_ROW_SECONDS))
        outcome = _impossible(row, shop, settings, failed)
        if outcome is None and began + expected + _KEEP_SECONDS > deadline:
            outcome = _outcome(row, settings, PENDING, "no time was left in this call")
        elif outcome is None:
            outcome = _try(row, shop, settings, notebook.base(row.case))
        seconds = time.monotonic() - began
        if outcome.status == MEASURED:
            took[row.case.name] = max(seconds, took.get(row.case.name, 0.0))
            failed[row.runtime.name] = ""
        elif outcome.status == FAILED and not outcome.points:
            failed.setdefault(row.runtime.name, f"{row.key} failed: {outcome.reason}")
        notebook.add(outcome, seconds)


class Notebook:
    """All rows, and what is known of each; it is on disk all the time."""

    def __init__(
        self, folders: Sequence[Path], shop: Workshop, settings: Settings, earlier: dict[str, Any] | None
    ) -> None:
        self.folders, self.shop, self.settings = folders, shop, settings
        self.machine = host.describe()
        self.rows = {row.key: _outcome(row, settings, PENDING, "not begun") for row in matrix.rows(settings.cases)}
        if earlier:
            self.rows |= {one.key: one for one in results.from_json(earlier)}
            done = {what: said for what, said in earlier["prepared"].items() if "error" not in said}
            shop.record.update({what: said for what, said in done.items() if what != "probe"})

    def status(self, row: Row) -> str:
        """What is known of a row."""
        return self.rows[row.key].status

    def failed(self) -> dict[str, str]:
        """By runtime: how it failed, where nothing of it was ever measured."""
        statuses: dict[str, set[str]] = {}
        reasons: dict[str, str] = {}
        for one in self.rows.values():
            runtime = one.row.partition("-")[0]
            statuses.setdefault(runtime, set()).add(one.status)
            if one.status == FAILED and not one.points:
                reasons.setdefault(runtime, f"{one.key} failed: {one.reason}")
        return {runtime: reason for runtime, reason in reasons.items() if MEASURED not in statuses[runtime]}

    def add(self, outcome: Outcome, seconds: float = 0.0) -> None:
        """Writes a row down."""
        self.rows[outcome.key] = Outcome(**{**vars(outcome), "seconds": round(seconds, 1)})
        shown = outcome.reason or f"{len(outcome.points)} points in {seconds:.0f} s"
        say(f"{outcome.key}: {outcome.status}: {shown}")
        for folder in self.folders:
            results.write(self.document(), folder)

    def base(self, case: matrix.Case) -> results.Best | None:
        """The case's base at its own best."""
        return results.bases(self.rows.values()).get(case.name)

    def document(self) -> dict[str, Any]:
        """All of it as JSON data."""
        order = [row.key for row in matrix.rows(self.settings.cases)]
        table = [name for runtime in matrix.RUNTIMES for name in (f"{runtime.name}-{v.name}" for v in matrix.VARIANTS)]
        known = sorted(
            (one for one in self.rows.values() if one.key in order),
            key=lambda one: ([case.name for case in self.settings.cases].index(one.case), table.index(one.row)),
        )
        return results.to_json(known, {**_about(self.settings), "host": self.machine, "prepared": self.shop.record})


def _about(settings: Settings) -> dict[str, Any]:
    windows = settings.windows
    where = "a CPU, on a tiny model: these figures mean nothing" if settings.cpu else "one GPU"
    return {
        "title": f"The study's matrix on {where}",
        "about": "BERT with random weights from a seed, mean of the token vectors out. Requests of one text each, real "
        f"token ids without padding, over gRPC from the same machine; at most {matrix.MAX_BATCH_SIZE} in a batch. "
        "Throughput is the best over concurrencies whose p99 is no worse than pt-base's at its own best. Parity is the "
        "smallest cosine to PyTorch in fp32 over 16 texts, asked through the server.",
        "settings": {
            "concurrencies": list(settings.concurrencies),
            "window_milliseconds": windows.interval_milliseconds,
            "stability_percent": windows.stability_percent,
            "max_batch_size": matrix.MAX_BATCH_SIZE,
            "engine_profiles_batch": [list(profile) for profile in matrix.PROFILES],
            "server": "--disable-auto-complete-config",
        },
    }


def _earlier(folders: Sequence[Path | None]) -> dict[str, Any] | None:
    """What an earlier call wrote, in the first of these folders that has something."""
    found = (results.read(folder) for folder in folders if folder)
    return next((document for document in found if document), None)


def _outcome(row: Row, settings: Settings, status: str, reason: str = "", **found: object) -> Outcome:
    return Outcome(row.case.name, row.name, row.about(cpu=settings.cpu), status, reason, **found)  # type: ignore[arg-type]


def _impossible(row: Row, shop: Workshop, settings: Settings, failed: dict[str, str]) -> Outcome | None:
    """Why a row cannot be run on this host, where that is known without trying."""
    if row.runtime.name != "pt" and failed.get(row.runtime.name):
        return _outcome(row, settings, NOT_RUN, failed[row.runtime.name])
    try:
        shop.check(row)
    except NotRunError as error:
        return _outcome(row, settings, NOT_RUN, str(error))
    return None


def _try(row: Row, shop: Workshop, settings: Settings, base: results.Best | None) -> Outcome:
    """Measures a row; whatever goes wrong is its outcome."""
    try:
        files = shop.files(row)
        return _measure(row, files, shop, settings, base)
    except NotRunError as error:
        return _outcome(row, settings, NOT_RUN, str(error))
    except (TritonsmithError, OSError) as error:
        return _outcome(row, settings, FAILED, " ".join(str(error).split())[-1500:])


def _measure(row: Row, files: served.Files, shop: Workshop, settings: Settings, base: results.Best | None) -> Outcome:
    samples = shop.samples(row.case)
    precision = "fp32" if settings.cpu else row.runtime.precision
    limit = base.p99_ms if base and row.name != matrix.BASE else None
    load = served.Load(shop.outfit.toolchain, shop.work / "perf", settings.concurrencies, settings.windows)

    def go_on(point: dict[str, Any]) -> bool:
        # More in flight only make a request wait longer: far beyond the base's p99 nothing can count.
        return limit is None or point["status"] != "stable" or point["p99_ms"] <= 1.5 * limit

    with served.serve(row, files, shop.outfit, shop.work, cpu=settings.cpu) as (server, facts):
        parity = served.check(served.ask(server.http_address, row.name, samples), samples.expected, precision)
        points = served.measure(server, row.name, samples, load, go_on)
    stable = any(point["status"] == "stable" for point in points)
    status, reason = (MEASURED, "") if stable else (FAILED, f"no stable point: {points[-1]['detail'][-300:]}")
    return _outcome(row, settings, status, reason, points=tuple(points), parity=parity, facts=facts)


if __name__ == "__main__":
    sys.exit(main())
