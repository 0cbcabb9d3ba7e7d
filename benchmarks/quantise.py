"""INT8 on the CPU against FP32: speed, and whether search results stay the same.

Settings are chosen on one set of 200 sentences (``data/sentences-a.jsonl``) and everything is reported on another
(``data/sentences-b.jsonl``). Two ways in which onnxruntime quantises by itself stand beside it.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import machine
from benchmarks.paths import RECIPE, scratch
from benchmarks.progress import say
from benchmarks.report import Comparison, Goal, Result
from benchmarks.statistics import interleave
from builder.artifacts import Sample
from builder.core.execute import Executor
from builder.core.store import Store
from builder.export.bind import Bind
from builder.export.check import Check
from builder.export.reference import Refer
from builder.export.source import Resolve
from builder.export.tokenizer import Tokenizer
from builder.export.trace import Trace
from builder.optimise import Optimise, OptimiseInputs
from builder.parity.compare import compare
from builder.parity.neighbours import agreement
from builder.parity.questions import Questions, calibration
from builder.recipe import load
from builder.recipe.tasks import tolerances
from builder.tools import external, onnx_proto
from builder.tools.files import materialise

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from benchmarks.options import Options
    from builder.artifacts import OnnxModel, TokenizerFiles

    Inputs = Mapping[str, np.ndarray]
    Opaque = Any  # of a library without types

ABOUT = (
    "all-MiniLM-L6-v2 in onnxruntime, one thread, processor time (the machine may have other work): INT8 as the stage "
    "`optimise` makes it for the runtime `onnxruntime`, against the FP32 model as exported. Settings were chosen on "
    "200 sentences (set A), the figures are those of 200 others (set B; `benchmarks/data/SOURCES.md`). *Neighbours "
    "kept* is the share of sentences of set B whose nearest neighbour among the others is the one that FP32 gives. "
    "Rows *for comparison* measure in our place what `onnxruntime.quantization` makes of the same model."
)
GOAL_SPEED, GOAL_AGREEMENT = Goal("ratio", 1.6), Goal("ratio", 0.95)
DATA = Path(__file__).parent / "data"
_ROUNDS, _WARM_UPS = 15, 1
_SHAPES = ((1, 32), (1, 128), (8, 128))
_OURS = "int8"
_PEERS = {
    "dynamic": "quantize_dynamic, per channel",
    "blocks128": "MatMulNBits, 8 bits, blocks of 128, accuracy level 4",
    "blocks32": "MatMulNBits, 8 bits, blocks of 32, accuracy level 4",
}


def run(name: str, options: Options) -> Result:
    """Builds the models, then measures all of them in turn."""
    facts = machine.describe(packages=("onnxruntime", "onnx", "numpy"))
    rounds = options.rounds or (3 if options.quick else _ROUNDS)
    with scratch() as folder:
        model, tokens, record = _build(folder)
        paths = {
            "fp32": materialise(model[0].files, folder / "fp32"),
            _OURS: materialise(model[1].files, folder / _OURS),
        }
        paths |= _peers(paths["fp32"], folder)
        sessions = {side: _session(path / "model.onnx") for side, path in paths.items()}
        asked = _set("b", tokens)
        rows = (*_quality(sessions, asked), *_speed(sessions, asked, rounds))
    settings = {
        "rounds": rounds,
        "products kept in fp32": len(record["kept_fp32"]),
        "MB": _sizes(model),
    }
    return Result(name, "INT8 on the CPU", ABOUT, rows, facts, settings, raw=tuple(record["ledger"]))


def _sizes(models: tuple[OnnxModel, OnnxModel]) -> str:
    found = [sum(file.size for file in model.files.values()) / 1e6 for model in models]
    return f"fp32 {found[0]:.1f}, int8 {found[1]:.1f}"


def _build(folder: Path) -> tuple[tuple[OnnxModel, OnnxModel], TokenizerFiles, dict[str, Any]]:
    recipe, store = load(RECIPE), Store.at(folder / "store")
    executor, task = Executor(store, recipe.name), recipe.task
    samples = tuple(Sample(text) for text in _sentences("a"))
    say("quantise: exporting")
    source = executor.run(Resolve(task, store.ingest), recipe.source)
    tokens = executor.run(Tokenizer(task, recipe.inputs.max_length), source)
    model = executor.run(Bind(task), (executor.run(Trace(task), (source, tokens)), source))
    reference = executor.run(Refer(task, (1, 8), (2, 64)), (source, tokens, samples))
    exported = executor.run(Check(), (model, reference))
    say("quantise: choosing settings on set A")
    stage = Optimise(_OURS, "onnxruntime", tolerances=tolerances("cosine", _OURS))
    made = executor.run(stage, OptimiseInputs(exported, reference, tokens, samples))
    return (exported, made), tokens, made.record["precision"]


def _sentences(name: str) -> list[str]:
    lines = (DATA / f"sentences-{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def _set(name: str, tokens: TokenizerFiles) -> Questions:
    import numpy as np

    samples = tuple(Sample(text) for text in _sentences(name))
    return Questions(calibration(samples, tokens), {"EMBEDDING": np.zeros(0)}, "cosine", len(samples))


def _session(path: Path) -> _OneThread:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return _OneThread(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))


class _OneThread:
    def __init__(self, session: Opaque) -> None:
        self._session = session

    def run(self, inputs: Inputs, outputs: list[str]) -> dict[str, Any]:
        return dict(zip(outputs, self._session.run(outputs, dict(inputs)), strict=True))


def _peers(fp32: Path, folder: Path) -> dict[str, Path]:
    """What onnxruntime's own tools make of the model; its weights are put into the file for them, turned around."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    say("quantise: the peers")
    plain = folder / "plain.onnx"
    onnx_proto.save(_whole(fp32), plain)
    made = {name: folder / name for name in _PEERS}
    for path in made.values():
        path.mkdir()
    logging.disable(logging.INFO)  # a line for each node
    quantize_dynamic(plain, made["dynamic"] / "model.onnx", per_channel=True, weight_type=QuantType.QInt8)
    for size in (128, 32):
        model = onnx_proto.load(plain)
        quantiser = MatMulNBitsQuantizer(model, bits=8, block_size=size, is_symmetric=True, accuracy_level=4)
        quantiser.process()
        quantiser.model.save_model_to_file(str(made[f"blocks{size}"] / "model.onnx"))
    return made


def _whole(folder: Path) -> Opaque:
    """A model with its weights inside; a weight that is transposed before it is used is stored so."""
    import numpy as np
    from onnx import numpy_helper

    model = onnx_proto.load(folder / "model.onnx")
    stored = {one.name: np.array(external.values(one, folder)) for one in model.graph.initializer}
    nodes = list(model.graph.node)
    del model.graph.node[:], model.graph.initializer[:]
    for node in nodes:
        if node.op_type == "Transpose" and node.input[0] in stored:
            stored[node.output[0]] = np.ascontiguousarray(stored[node.input[0]].T)
        else:
            model.graph.node.append(node)
    taken = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in stored.items() if k in taken)
    return model


def _quality(sessions: Mapping[str, _OneThread], asked: Questions) -> list[Comparison]:
    answers = {side: asked.ask(session) for side, session in sessions.items()}
    exact, rows = answers["fp32"], []
    for side in (_OURS, *_PEERS):
        kept = agreement(exact["EMBEDDING"], answers[side]["EMBEDDING"])
        mean = compare("cosine", exact, answers[side]).figures["cosine_mean"]
        goal = GOAL_AGREEMENT if side == _OURS else None
        rows.append(Comparison(f"neighbours kept{_named(side)}", "", "fp32", (kept,), (1.0,), True, goal))
        rows.append(Comparison(f"mean cosine{_named(side)}", "", "fp32", (mean,), (1.0,), True))
    return rows


def _named(side: str) -> str:
    return "" if side == _OURS else f"; for comparison: {_PEERS[side]}"


def _speed(sessions: Mapping[str, _OneThread], asked: Questions, rounds: int) -> list[Comparison]:
    import numpy as np

    source = np.random.default_rng(0)
    names = list(asked.batches[0].inputs)

    def tokens(shape: tuple[int, int]) -> list[Inputs]:
        ids = source.integers(1000, 20_000, shape)
        values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        return [{name: values[name] for name in names}]

    singles = [{name: rows[:1] for name, rows in batch.inputs.items()} for batch in asked.batches]
    work = {f"{batch} x {length} tokens": tokens((batch, length)) for batch, length in _SHAPES}
    work["sentences of set B, one at a time (one of each length)"] = singles
    return [row for what, inputs in work.items() for row in _rows(what, inputs, sessions, rounds)]


def _rows(what: str, inputs: list[Inputs], sessions: Mapping[str, _OneThread], rounds: int) -> list[Comparison]:
    say(f"quantise: {what}")
    taken: dict[str, list[float]] = {side: [] for side in sessions}
    for number, side in interleave(list(sessions), rounds + _WARM_UPS):
        began = time.process_time()
        for one in inputs:
            sessions[side].run(one, ["EMBEDDING"])
        if number >= _WARM_UPS:
            taken[side].append((time.process_time() - began) * 1000)
    exact = tuple(taken["fp32"])
    return [
        Comparison(
            what + _named(side), "ms", "fp32", tuple(taken[side]), exact, goal=GOAL_SPEED if side == _OURS else None
        )
        for side in (_OURS, *_PEERS)
    ]
