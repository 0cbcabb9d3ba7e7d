"""Crash and load tests at their full size; the suite runs a bounded share of the same (``tests/core/test_crashes.py``,
``tests/system/test_store.py``). Seeded; each part counts what went wrong."""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from tests.models import make_model
from tests.soak import fleet, lint, parts
from tests.soak.builds import ROOT, chain, real

RESULTS = ROOT / "benchmarks" / "results" / "soak.json"
TITLES = {
    "kills": "SIGKILL at a random moment, cheap stages: the next run completes, with the same digest",
    "real_kills": "SIGKILL of `tritonsmith build` in each of its stages, its server included: also, nothing is left",
    "damage": "damage all over the store, cheap stages: mended, never shipped",
    "real_damage": "damage all over the store, `tritonsmith build`: mended, never shipped",
    "crowd": "builds of overlapping recipes at once, cheap stages: each stage runs once",
    "real_crowd": "builds of overlapping recipes at once, `tritonsmith build`: each stage runs once",
    "collecting": "collecting without end while builds run that may not mend",
    "real_collecting": "`store gc --max-size 0` without end while `tritonsmith build` runs",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*", choices=[*TITLES, []], help="what to run; default: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=50, help="of cheap stages")
    parser.add_argument("--real-kills", type=int, default=len(parts.MOMENTS), help="of the real command")
    parser.add_argument("--damage", type=int, default=40, help="rounds, with cheap stages")
    parser.add_argument("--real-damage", type=int, default=3, help="rounds, with the real command")
    parser.add_argument("--crowd", type=int, default=8, help="builds at once")
    parser.add_argument("--gc", type=int, default=40, help="builds of cheap stages")
    parser.add_argument("--real-gc", type=int, default=1, help="builds with the real command")
    parser.add_argument("--lint", type=int, default=0, help="instead of all this: mutants for lint and the server")
    parser.add_argument("--lint-configs", type=int, default=5000, help="with --lint: configs that are only polled")
    parser.add_argument("--fleet", type=int, default=0, help="instead of all this: archives behind one front end")
    parser.add_argument("--fleet-room", type=int, default=20, help="with --fleet: models that are loaded at most")
    parser.add_argument("--fleet-at-once", type=int, default=1, help="with --fleet: loads and unloads under way")
    parser.add_argument("--fleet-requests", type=int, default=600, help="with --fleet: requests")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    if options.lint:
        return lint.run(options.lint, options.lint_configs, options.seed, options.out or lint.RESULTS)
    if options.fleet:
        out = options.out or fleet.RESULTS
        return fleet.run(
            options.fleet, options.fleet_room, options.fleet_requests, options.seed, options.fleet_at_once, out
        )
    options.out = options.out or RESULTS
    logging.getLogger("builder").addHandler(logging.NullHandler())  # it warns of damage, which is what this is about
    results: dict[str, Any] = {
        "seed": options.seed,
        "machine": machine.describe(["torch", "transformers"]),
        "parts": {},
    }
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        calls = _calls(options, Path(name))
        for part in options.part or calls:
            began = time.monotonic()
            found = results["parts"][part] = calls[part]()
            found["seconds"] = round(time.monotonic() - began, 1)
            options.out.write_text(json.dumps(results, indent=1) + "\n")
            options.out.with_suffix(".md").write_text(report(results))
            parts.say(f"{part}: {len(found['failures'])} failures, {found['seconds']} s")
    return 1 if any(part["failures"] for part in results["parts"].values()) else 0


def _calls(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    model = make_model("bert", "sentence-embedding", folder / "model")

    def dice(part: str) -> random.Random:
        return random.Random(f"{part} {options.seed}")

    return {
        "kills": lambda: parts.kills(options.kills, dice("kills"), folder / "kills"),
        "damage": lambda: parts.damaged(chain(folder / "damage"), options.damage, dice("damage")),
        "crowd": lambda: parts.crowd(options.crowd, folder / "crowd"),
        "collecting": lambda: parts.collecting(options.gc, dice("collecting"), folder / "collecting"),
        "real_kills": lambda: parts.real_kills(options.real_kills, dice("real_kills"), folder / "real-kills", model),
        "real_crowd": lambda: parts.real_crowd(options.crowd, folder / "real-crowd", model),
        "real_damage": lambda: parts.damaged(
            real(folder / "real-damage", model), options.real_damage, dice("real_damage"), "--no-verify"
        ),
        "real_collecting": lambda: parts.real_collecting(options.real_gc, folder / "real-collecting", model),
    }


def report(results: dict[str, Any]) -> str:
    """The results as a page."""
    rows = [
        f"| {TITLES[part]} | {_figures(found)} | {len(found['failures'])} |" for part, found in results["parts"].items()
    ]
    facts = ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in results["machine"].items() if name != "versions"
    )
    versions = ", ".join(f"{name} {value}" for name, value in results["machine"]["versions"].items())
    return "\n".join(
        [
            "# Soak: killed, damaged, crowded, collected", "",
            f"`scripts/soak --seed {results['seed']}`. Written by it, with all figures in `soak.json`.", "",
            "| what | figures | failures |", "| --- | --- | --- |", *rows, "",
            f"Machine: {facts}.", "", f"Versions: {versions}.", "",
        ]
    )  # fmt: skip


def _figures(found: dict[str, Any]) -> str:
    parts_of = []
    for name, value in found.items():
        if isinstance(value, dict):
            parts_of.append(", ".join(f"{count} {kind}" for kind, count in sorted(value.items())))
        elif not isinstance(value, list) and name != "seconds":
            parts_of.append(f"{name.replace('_', ' ')} {value}")
    return "; ".join(parts_of)


if __name__ == "__main__":
    sys.exit(main())
