"""``scripts/bench [NAME …] [--rounds N] [--quick] [--out DIR]``."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.options import Options
from benchmarks.progress import say
from builder.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_TERMINATED, TritonsmithError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.report import Result

# Name → the module that runs it. One module may run several, on the same servers.
BENCHMARKS = {
    "startup": "benchmarks.startup",
    "incremental": "benchmarks.incremental",
    "lint": "benchmarks.lint",
    "packing": "benchmarks.packing",
    "quantise": "benchmarks.quantise",
    "export": "benchmarks.export",
    "jobs": "benchmarks.jobs",
    "engine": "benchmarks.engine",
    "sweep": "benchmarks.sweep",
    "sweep-peer": "benchmarks.sweep",
    "served": "benchmarks.served",
    "text": "benchmarks.served",
    "defaults": "benchmarks.served",
}
RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the named benchmarks; 0 even where a goal is missed: that is a result, not a failure."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__, allow_abbrev=False)
    parser.add_argument("names", nargs="*", type=_name, metavar="NAME", help=f"{', '.join(BENCHMARKS)}, all (default)")
    parser.add_argument("--rounds", type=_positive, help="rounds of each benchmark (default: each has its own)")
    parser.add_argument("--quick", action="store_true", help="a smoke run: few and short rounds, nothing is kept")
    parser.add_argument("--out", type=Path, help="where results go (default: benchmarks/results; --quick: nowhere)")
    given = parser.parse_args(arguments)
    out = given.out or (None if given.quick else RESULTS)
    names = list(BENCHMARKS) if not given.names or "all" in given.names else list(dict.fromkeys(given.names))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))  # unwinds: folders are removed, servers end
    code = EXIT_DONE
    for name in names:
        try:
            result = _run(name, Options(given.rounds, given.quick))
        except TritonsmithError as error:
            sys.stderr.write(f"bench: {name}: {error}\n")
            code = code or error.exit_code
        except KeyboardInterrupt:
            sys.stderr.write("bench: interrupted\n")
            return EXIT_INTERRUPTED
        else:
            _report(result, out, quick=given.quick)
    return code


def _run(name: str, options: Options) -> Result:
    say(f"{name}: begins")
    result: Result = importlib.import_module(BENCHMARKS[name]).run(name, options)
    return result


def _report(result: Result, out: Path | None, *, quick: bool) -> None:
    note = "(--quick: a smoke run; its figures mean nothing)\n\n" if quick else ""
    sys.stdout.write(f"\n{note}{result.to_markdown()}\n")
    sys.stdout.flush()
    if out is not None:
        result.write(out)
        say(f"{result.name}: written to {out}")


def _name(text: str) -> str:
    if text not in (*BENCHMARKS, "all"):
        raise argparse.ArgumentTypeError(f"{text!r}: no such benchmark; there are {', '.join(BENCHMARKS)}, all")
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: rounds must be a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
