"""MiniLM in fp16 → a plan of TensorRT for RTX: the engine stage, and the builder by itself."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks import engine_bare, machine
from benchmarks.child import cost
from benchmarks.paths import RECIPE, scratch
from benchmarks.progress import say
from benchmarks.report import Comparison, Goal, Result
from benchmarks.statistics import interleave
from builder.artifacts import OnnxModel, Profile
from builder.core.codec import from_json, to_json
from builder.core.digest import describe_folder, digest_file
from builder.engine import plan_profiles
from builder.errors import GateError
from builder.tools import half, onnx_proto
from builder.tools.files import materialise

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.child import Usage
    from benchmarks.options import Options

ABOUT = (
    "all-MiniLM-L6-v2 in fp16, compiled by TensorRT for RTX, on the CPU, for compute capability 8.6, with the two "
    "profiles that a target with buckets gets (batch 1 to 64; 2 to 64 and 65 to 256 tokens) and with one. Each round "
    "is a fresh process on each side. The peer is the builder by itself: it parses the ONNX file, compiles, and writes "
    "the plan. tritonsmith's stage also starts a process for the library, which imports it, hashes what it reads and "
    "what it made, and publishes the plan in a store. *Seconds of the stage* leave out Python's start and the imports "
    "of the outer process (the peer's: of the library too); *whole process* counts all. Both sides made equal plans."
)
OURS, BARE = "tritonsmith", "bare builder"
CAPABILITY = "8.6"
_ROUNDS = 9
_GOAL = 1 / 1.5
"""The stage may take 1.5 times what the builder takes by itself."""

_CASES: dict[str, tuple[Profile, ...]] = {
    "two profiles": plan_profiles((1, 8, 64), (2, 64, 256), (16, 32, 64, 128, 256)),
    "one profile": plan_profiles((1, 8, 64), (2, 64, 256)),
}


def run(name: str, options: Options) -> Result:
    """Measures both sides in turn, for both cases."""
    facts = machine.describe(("tensorrt-rtx-cu13-libs", "onnx"))
    rounds = options.rounds or (2 if options.quick else _ROUNDS)
    raw: list[dict[str, Any]] = []
    with scratch() as folder:
        model = _prepare(folder)
        for case, profiles in _CASES.items():
            for number, side in interleave((OURS, BARE), rounds + 1):  # in the first, files come into the page cache
                one = _measure(folder, side, model, profiles)
                say(f"engine: {case}, round {number} of {rounds}, {side}: {one['stage_seconds']:.2f} s")
                if number:
                    raw.append({"case": case, "side": side, **one})
        _check(raw)
    rows = [row for case in _CASES for row in _rows(case, [one for one in raw if one["case"] == case])]
    return Result(name, "Engines", ABOUT, tuple(rows), facts, {"rounds": rounds, "warm-ups": 1}, tuple(raw))


def _prepare(folder: Path) -> OnnxModel:
    """MiniLM as a build binds it, converted to fp16 as a build does."""
    say("engine: making the model")
    cost([sys.executable, "-m", "benchmarks.export_ours", RECIPE, folder / "export"], what="export")
    document = json.loads((folder / "export" / "export.json").read_text(encoding="utf-8"))
    model = from_json(OnnxModel, document["model"])
    source = materialise(model.files, folder / "fp32")
    made = folder / "fp16"
    made.mkdir()
    half.save(half.convert(onnx_proto.load(source / "model.onnx"), half.FP16, ()), source, made)
    for file in onnx_proto.data_files(onnx_proto.load(made / "model.onnx")):
        if not (made / file).exists():  # weights that stay as they are
            shutil.copyfile(source / file, made / file)
    return replace(model, files=describe_folder(made))


def _measure(folder: Path, side: str, model: OnnxModel, profiles: tuple[Profile, ...]) -> dict[str, Any]:
    store, plan, order = folder / "store", folder / "bare.plan", folder / "order.json"
    shutil.rmtree(store, ignore_errors=True)
    asked = {"capability": CAPABILITY, "profiles": [to_json(profile) for profile in profiles], "store": str(store)}
    document = {
        "model": to_json(model),
        "path": str(model.files["model.onnx"].path),
        "plan": str(plan),
        "answer": str(folder / "answer.json"),
        "stages": [asked],
    }
    order.write_text(json.dumps(document), encoding="utf-8")
    what = ["-m", "benchmarks.engine_ours"] if side == OURS else [str(engine_bare.__file__)]
    usage: Usage = cost([sys.executable, *what, order], what=side)
    (answer,) = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    digest = answer.get("sha256") or digest_file(plan)
    return {"stage_seconds": answer["seconds"], "sha256": digest, **usage.to_json()}


def _rows(case: str, measured: list[dict[str, Any]]) -> list[Comparison]:
    def figures(key: str, side: str) -> tuple[float, ...]:
        return tuple(one[key] for one in measured if one["side"] == side)

    def cpu(side: str) -> tuple[float, ...]:
        pairs = zip(figures("user_seconds", side), figures("system_seconds", side), strict=True)
        return tuple(user + system for user, system in pairs)

    goal = Goal("ratio", _GOAL) if case == "two profiles" else None
    return [
        Comparison(f"{case}: seconds of the stage", "s", BARE, figures("stage_seconds", OURS),
                   figures("stage_seconds", BARE), goal=goal),
        Comparison(f"{case}: whole process", "s", BARE, figures("wall_seconds", OURS), figures("wall_seconds", BARE)),
        Comparison(f"{case}: whole process, processor time", "s", BARE, cpu(OURS), cpu(BARE)),
    ]  # fmt: skip


def _check(raw: list[dict[str, Any]]) -> None:
    """Both sides made the same plans.

    Raises:
        GateError: they did not.
    """
    for case in _CASES:
        digests = {one["sha256"] for one in raw if one["case"] == case}
        if len(digests) != 1:
            raise GateError(f"engine: {case}: {len(digests)} different plans")
