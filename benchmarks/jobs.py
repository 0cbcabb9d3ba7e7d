"""Cold builds of several models with two jobs against one: `tritonsmith build … --no-verify --jobs N`."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

from benchmarks import machine
from benchmarks.child import Usage, cost
from benchmarks.export_models import model_folder
from benchmarks.paths import RECIPE, scratch
from benchmarks.progress import say
from benchmarks.report import Comparison, Goal, Result
from benchmarks.statistics import interleave
from builder.errors import GateError
from builder.settings import settings
from builder.tools import hf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.options import Options

ABOUT = (
    "Cold builds, from an empty store to unverified archives: all-MiniLM-L6-v2 alone, and with two more embedders of "
    "other architectures (a small RoBERTa and a small DistilBERT with random weights and the same tokenizer). Each is "
    "a fresh process, files warm in the page cache; tritonsmith is `--jobs 2`, the peer is the same with `--jobs 1`. "
    "Both made the same archives, byte for byte."
)
TWO, ONE = "--jobs 2", "--jobs 1"
_ROUNDS = 5
_SMALL = {"vocab_size": 30522, "max_position_embeddings": 260, "pad_token_id": 1}
_OTHERS: Mapping[str, dict[str, Any]] = {
    "roberta": {
        "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 8, "intermediate_size": 1024,
        "type_vocab_size": 1,
    },
    "distilbert": {"dim": 256, "n_layers": 4, "n_heads": 8, "hidden_dim": 1024},
}  # fmt: skip
_RECIPE = """\
schema_version: 1
name: {name}
source: {{path: {name}}}
task: sentence-embedding
inputs: {{max_length: 128}}
targets: {{cpu: {{runtime: onnxruntime, hardware: {{vcpus: 2}}, triton: "25.09"}}}}
"""
_FIGURES: tuple[tuple[str, str, Callable[[Usage], float], Goal | None], ...] = (
    ("wall time", "s", lambda usage: usage.wall_seconds, Goal("ratio", 1.0, strict=True)),
    ("processor time (user + system)", "s", lambda usage: usage.cpu_seconds, None),
)


def run(name: str, options: Options) -> Result:
    """Measures both in turn, and compares what they made."""
    facts = machine.describe(("torch", "transformers"))
    rounds = options.rounds or (1 if options.quick else _ROUNDS)
    raw: list[dict[str, Any]] = []
    rows: list[Comparison] = []
    with scratch() as folder:
        recipes = [RECIPE, *(_recipe(kind, config, folder) for kind, config in _OTHERS.items())]
        for some in (recipes[:1], recipes):
            costs = _measure(some, rounds, folder, raw)
            what = "one recipe" if len(some) == 1 else f"{len(some)} recipes"
            for figure, unit, read, goal in _FIGURES:
                ours, peer = (tuple(read(usage) for usage in costs[side]) for side in (TWO, ONE))
                rows.append(Comparison(f"{what}: {figure}", unit, ONE, ours, peer, goal=goal))
    return Result(name, "Jobs", ABOUT, tuple(rows), facts, {"rounds": rounds}, tuple(raw))


def _recipe(kind: str, config: Mapping[str, Any], folder: Path) -> Path:
    """A recipe and its model."""
    (folder / kind).mkdir()
    values = {"model_type": kind, **_SMALL, **config}
    hf.make_random_model(values, 0, model_folder(), "sentence-embedding", folder / kind)
    path = folder / f"{kind}.yaml"
    path.write_text(_RECIPE.format(name=kind), encoding="utf-8")
    return path


def _measure(recipes: Sequence[Path], rounds: int, folder: Path, raw: list[dict[str, Any]]) -> dict[str, list[Usage]]:
    costs: dict[str, list[Usage]] = {TWO: [], ONE: []}
    made = set()
    for number, side in interleave(list(costs), rounds):
        cache, out = folder / "cache", folder / "out"
        for used in (cache, out):
            shutil.rmtree(used, ignore_errors=True)
        cache.mkdir()
        (cache / "wheels").symlink_to(settings().cache / "wheels")  # nothing is downloaded
        command = [sys.executable, "-m", "builder", "build", *recipes, "--no-verify", *side.split(), "--out", out]
        usage = cost(command, what=f"build {side}", env={"TRITONSMITH_CACHE": str(cache)})
        say(f"jobs: {len(recipes)} recipes, round {number + 1} of {rounds}, {side}: {usage.wall_seconds:.2f} s")
        costs[side].append(usage)
        raw.append({"recipes": len(recipes), "side": side, **usage.to_json()})
        made.add(json.dumps(sorted(path.name for path in out.glob("*.tar.gz"))))  # the name holds the tree's digest
    if len(made) != 1:
        raise GateError(f"the builds made different archives: {'; '.join(sorted(made))}")
    return costs
