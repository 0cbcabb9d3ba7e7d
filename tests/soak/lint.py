"""Lint's verdicts against the real server's, on thousands of mutants (``tests/lint/agreement.py``)."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

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
    with tempfile.TemporaryDirectory(prefix="soak-lint-") as name:
        results = agreement(loads, configs, seed, chain, environment, Path(name))
    out.write_text(json.dumps(results, indent=1) + "\n")
    parts.say(f"lint: {len(results['failures'])} failures")
    return 1 if results["failures"] else 0
