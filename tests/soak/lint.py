"""Lint's verdicts against the real server's, on thousands of mutants (``tests/lint/agreement.py``)."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from builder.settings import settings
from builder.tools import releases
from builder.tools import toolchain as toolchains
from tests.lint.agreement import agreement
from tests.soak import parts
from tests.soak.builds import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "lint-agreement.json"


def run(loads: int, configs: int, seed: int, out: Path) -> int:
    """Asks the server about ``loads`` repositories and ``configs`` configs; 1 where lint disagrees."""
    chain = toolchains.install(settings().cache)
    onnxruntime = releases.release("25.09").onnxruntime
    assert onnxruntime is not None
    environment = toolchains.python_environment(chain, settings().cache, onnxruntime)

    def write(results: dict[str, Any]) -> None:
        out.write_text(json.dumps(results, indent=1) + "\n")
        out.with_suffix(".md").write_text(page(results))

    with tempfile.TemporaryDirectory(prefix="soak-lint-") as name:
        results = agreement(loads, configs, seed, chain, environment, Path(name), write)
    parts.say(f"lint: {len(results['failures'])} failures")
    return 1 if results["failures"] else 0


def page(results: dict[str, Any]) -> str:
    """The results as a page."""
    rows = []
    for mode, parts_of in results["modes"].items():
        for part, what in (("loads", "repositories, loaded"), ("configs", "configs, polled")):
            found = parts_of[part]
            lint_said = sum(found["unanswered"].values())
            ended = f"{lint_said + len(found['unanswered_passed'])} ({lint_said})"
            rows.append(
                f"| {mode} | {what} | {found['cases']} | {found['refused_by_both']} | {found['loaded_by_both']} | "
                f"{len(found['missed'])} | {len(found['false'])} | {ended} |"
            )
    sides = [
        f"{of_mode.get('sides', {}).get('sides_as_lint_says', 0)} ({mode})"
        for mode, of_mode in results["modes"].items()
    ]
    passed = [
        one
        for of_mode in results["modes"].values()
        for part in ("loads", "configs")
        for one in of_mode[part]["unanswered_passed"]
    ]
    head = (
        "`scripts/soak --lint N`, written by it, with all figures in `lint-agreement.json`: mutants of small"
        f" repositories, seeds {results['seed']} and on, against the {results['server']}."
    )
    titles = (
        "| mode | mutants | compared | refused by both | loaded by both | missed by lint | false load-errors |"
        " the server ended or hung (lint refuses) |"
    )
    return "\n".join(
        [
            "# Lint and the server", "", head, "", titles, "| --- " * 8 + "|", *rows, "",
            f"Rules with a bad repository that is refused and a good one that loads: {', '.join(sides)}.", "",
            f"Rules that no mutant hit: {', '.join(results['rules_that_found_nothing']) or 'none'}.", "",
            _twice(results["modes"]), "",
            f"Lint finds nothing, and the server ended or hung: {len(passed) or 'none'}.", "",
            *(f"* {one}" for one in passed), *([""] if passed else []),
            *(f"* {one}" for one in results["failures"]),
        ]
    )  # fmt: skip


def _twice(modes: dict[str, Any]) -> str:
    """What was asked with numpy, too."""
    found = {mode: of_mode["same_with_numpy"] for mode, of_mode in modes.items() if "same_with_numpy" in of_mode}
    same = [f"{one['asked'] - len(one['differ'])} of {one['asked']} ({mode})" for mode, one in found.items()]
    return (
        "Python models ran without numpy where no tensor is made while they load. Asked again with it, the server said"
        f" the same of {', '.join(same) or 'none: it was not asked'}."
    )
