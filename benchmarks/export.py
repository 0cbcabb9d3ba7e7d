"""Hugging Face model → ONNX: tritonsmith's stages up to `bind` against `optimum-cli export onnx`."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks import machine, optimum
from benchmarks.child import Usage, cost
from benchmarks.export_compare import compare
from benchmarks.export_models import bert_large, minilm
from benchmarks.paths import scratch
from benchmarks.progress import say
from benchmarks.report import Comparison, Goal, Result
from benchmarks.statistics import interleave
from builder.core.report import FOUND, RAN
from builder.errors import GateError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.export_models import Checkpoints
    from benchmarks.options import Options

ABOUT = (
    "Two models: all-MiniLM-L6-v2 (22.7 M parameters, 91 MB) and bert-large with seeded random weights (1.34 GB). Each "
    "side runs in a fresh process from its start to its end; the checkpoint is in the page cache, and what an earlier "
    "process wrote is on the disk. *cold*: tritonsmith begins with an empty store, and runs the stages that make the "
    "model: source, tokenizer, trace, bind. *another checkpoint*: the same recipe with other weights of the same "
    "architecture, in the store that this left; source and bind run, tokenizer and trace are found. Like "
    "`optimum-cli export onnx` it writes a copy of the weights (tritonsmith's is hashed as well). `optimum-cli` "
    "compares its model with the original on one small input; “optimum, no validation” is its "
    "`main_export(do_validation=False)`, and does what tritonsmith's four stages do. *validated*: tritonsmith's stages "
    "reference and check as well, which ask the Hugging Face model all samples of a recipe and negative controls, and "
    "compare at the extremes of its shapes: much more than optimum's comparison. Another checkpoint is compared with "
    "the same cold run of optimum, which keeps nothing. The models of all sides were loaded by onnxruntime and gave "
    "equal answers."
)
OURS, CLI, LEAN = "tritonsmith", "optimum-cli", "optimum, no validation"
COLD, ANOTHER, VALIDATED, ANOTHER_VALIDATED = (
    "cold", "another checkpoint", "cold, validated", "another checkpoint, validated",
)  # fmt: skip
_OFFLINE: Final = {"HF_HUB_OFFLINE": "1"}
_FIGURES: Final[tuple[tuple[str, str, Callable[[Usage], float]], ...]] = (
    ("wall time", "s", lambda usage: usage.wall_seconds),
    ("processor time", "s", lambda usage: usage.cpu_seconds),
    ("peak memory", "MB", lambda usage: usage.peak_bytes / 1e6),
)
_GOALS: Final = {  # of optimum-cli's figure, at most this part
    ("all-MiniLM-L6-v2", COLD, "wall time"): 1.0,
    ("all-MiniLM-L6-v2", COLD, "peak memory"): 0.7,
    ("bert-large", COLD, "wall time"): 0.6,
    ("bert-large", COLD, "peak memory"): 0.12,
    ("all-MiniLM-L6-v2", ANOTHER, "wall time"): 0.1,
    ("all-MiniLM-L6-v2", ANOTHER, "peak memory"): 0.3,
    ("bert-large", ANOTHER, "wall time"): 0.1,
    ("bert-large", ANOTHER, "peak memory"): 0.3,
}
_RECIPE: Final = """\
schema_version: 1
name: exported
source: {path: %s}
task: sentence-embedding
targets: {cpu: {runtime: onnxruntime, hardware: {vcpus: 2}, triton: "25.09"}}
"""


@dataclass(frozen=True, slots=True)
class _Case:
    """A model, and what is measured of it."""

    checkpoints: Checkpoints
    folder: Path
    rounds: int
    warm_ups: int
    ours: tuple[str, ...]  # what tritonsmith is measured at


def run(name: str, options: Options) -> Result:
    """Measures the sides in turn, and compares what they made."""
    facts = machine.describe(
        ("torch", "transformers", "onnx-ir", "onnxscript"),
        **{
            f"optimum's {package}": optimum.versions()[package] for package in ("optimum-onnx", "torch", "transformers")
        },
    )
    rows: list[Comparison] = []
    settings: dict[str, Any] = {}
    raw: list[dict[str, Any]] = []
    for make, usual, warm_ups, ours in _PLAN:
        with scratch() as folder:
            checkpoints = make(folder, options.quick)
            rounds = options.rounds or (1 if options.quick else usual)
            case = _Case(checkpoints, folder, rounds, 0 if options.quick else warm_ups, ours)
            costs = _measure(case, raw)
            rows += _rows(case, costs)
            settings |= {
                f"{checkpoints.name}: rounds": rounds,
                f"{checkpoints.name}: weights (bytes)": checkpoints.weights_bytes,
                f"{checkpoints.name}: smallest cosine between the answers": compare(folder, OURS, (CLI, LEAN)),
            }
    return Result(name, "Export", ABOUT, tuple(rows), facts, settings, tuple(raw))


# How a model is made, its rounds, its warm-ups, and what is measured of tritonsmith.
_PLAN: Final[tuple[tuple[Callable[[Path, bool], Checkpoints], int, int, tuple[str, ...]], ...]] = (
    (lambda folder, _: minilm(folder), 5, 1, (COLD, ANOTHER, VALIDATED, ANOTHER_VALIDATED)),
    (lambda folder, quick: bert_large(folder, quick=quick), 3, 0, (COLD, ANOTHER)),
)


def _measure(case: _Case, raw: list[dict[str, Any]]) -> dict[str, list[Usage]]:
    """Costs by what tritonsmith was measured at, and by peer."""
    costs: dict[str, list[Usage]] = {side: [] for side in (*case.ours, CLI, LEAN)}
    for number, side in interleave((OURS, CLI, LEAN), case.rounds + case.warm_ups):
        for what, usage, stages in _tritonsmith(case) if side == OURS else [(side, _optimum(case, side), {})]:
            say(
                f"export: {case.checkpoints.name}: round {number + 1} of {case.rounds + case.warm_ups}, "
                f"{side if what == side else f'{side}, {what}'}: {usage.wall_seconds:.2f} s"
            )
            if number >= case.warm_ups:
                costs[what].append(usage)
                raw.append({"model": case.checkpoints.name, "side": what, **usage.to_json(), **stages})
    return costs


def _tritonsmith(case: _Case) -> list[tuple[str, Usage, dict[str, Any]]]:
    """One cold export into an empty store and one of another checkpoint into that store; then both, validated."""
    measured = []
    for cold, another, options in ((COLD, ANOTHER, ()), (VALIDATED, ANOTHER_VALIDATED, ("--check",))):
        if cold not in case.ours:
            continue
        store = _empty(case.folder / ("validated" if options else OURS))
        for what, checkpoint in ((cold, case.checkpoints.first), (another, case.checkpoints.other)):
            recipe = store.with_suffix(".yaml")
            recipe.write_text(_RECIPE % json.dumps(str(checkpoint)), encoding="utf-8")
            usage = _cost([sys.executable, "-m", "benchmarks.export_ours", recipe, store, *options], what)
            stages = json.loads((store / "export.json").read_text(encoding="utf-8"))["stages"]
            _check_stages(what, stages, RAN if what == cold else FOUND)
            measured.append((what, usage, {"stages": stages}))
            if what == COLD:
                shutil.copy(store / "export.json", case.folder / "cold.json")  # which is compared with optimum's
    return measured


def _check_stages(what: str, stages: dict[str, Any], kept: str) -> None:
    """The measurement is what it is called.

    Raises:
        GateError: something was found that should have run, or the other way round.
    """
    states = {stage: one["state"] for stage, one in stages.items()}
    expected = {**dict.fromkeys(states, RAN), "tokenizer": kept, "trace": kept}
    if states != expected:
        raise GateError(f"export: {what}: {states}, where {expected} was to be measured")


def _optimum(case: _Case, side: str) -> Usage:
    target, peer = _empty(case.folder / side.replace(" ", "-")), optimum.environment_folder() / "bin"
    checkpoint = case.checkpoints.first
    if side == LEAN:
        return _cost([peer / "python", "-P", Path(__file__).with_name("export_peer.py"), checkpoint, target], side)
    arguments = ["--task", "feature-extraction", "--library-name", "transformers", "--model"]
    return _cost([peer / "optimum-cli", "export", "onnx", *arguments, checkpoint, target], side)


def _cost(command: Sequence[str | Path], what: str) -> Usage:
    os.sync()  # nobody pays for what an earlier process wrote
    return cost(command, what=what, env=_OFFLINE)


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _rows(case: _Case, costs: dict[str, list[Usage]]) -> list[Comparison]:
    rows, name = [], case.checkpoints.name
    pairs = [(CLI, what) for what in case.ours] + [(LEAN, COLD)]
    for peer, what in pairs:
        for figure, unit, of in _FIGURES:
            ours, theirs = (tuple(of(usage) for usage in costs[side]) for side in (what, peer))
            part = _GOALS.get((name, what, figure)) if peer == CLI else None
            goal = Goal("ratio", round(1 / part, 2)) if part else None
            rows.append(Comparison(f"{name}, {what}: {figure}", unit, peer, ours, theirs, goal=goal))
    return rows
