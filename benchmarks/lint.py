"""How long ``tritonsmith lint`` takes for 500 models, against a script that only reads the same files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import machine
from benchmarks.child import cost
from benchmarks.paths import scratch
from benchmarks.progress import say
from benchmarks.report import Comparison, Goal, Result
from benchmarks.statistics import interleave

if TYPE_CHECKING:
    from benchmarks.options import Options

ABOUT = (
    "`tritonsmith lint` of a repository of 100 applications with five models each (tokenizer, two ONNX graphs of 60 "
    "nodes and 1 MiB, a vote, the ensemble), the whole process, files warm in the page cache. The peer is a Python "
    "script that looks at the same files with the usual libraries and checks nothing: `text_format.Parse` of each "
    "config, `onnx.load` without external data of each graph."
)
APPLICATIONS = 100
MODELS = 5 * APPLICATIONS
_ROUNDS = 15
_WARM_UPS = 2
_NODES = 30  # of two kinds
_PEER = """
import pathlib, sys
import onnx
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
for path in pathlib.Path(sys.argv[1]).rglob("config.pbtxt"):
    text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
for path in pathlib.Path(sys.argv[1]).rglob("*.onnx"):
    onnx.load(path, load_external_data=False)
"""


def run(name: str, options: Options) -> Result:
    """Measures both in turn."""
    facts = machine.describe(packages=("protobuf", "onnx"))
    rounds = options.rounds or (3 if options.quick else _ROUNDS)
    seconds: dict[str, list[float]] = {"lint": [], "script": []}
    cpu: dict[str, list[float]] = {"lint": [], "script": []}
    with scratch() as folder:
        repository = _repository(folder / "models")
        python = Path(sys.executable)
        commands = {
            "lint": [python.with_name("tritonsmith"), "lint", repository],
            "script": [python, "-c", _PEER, repository],
        }
        say(f"lint: {rounds} rounds of {MODELS} models")
        for number, side in interleave(list(commands), rounds + _WARM_UPS):
            taken = cost(commands[side], what=side)
            if number >= _WARM_UPS:
                seconds[side].append(taken.wall_seconds)
                cpu[side].append(taken.cpu_seconds)
    rows = (
        _row(f"lint {MODELS} models", seconds, Goal("value", 2.0)),
        _row("… processor time", cpu, None),
    )
    settings = {"models": MODELS, "rounds": rounds, "warm-ups": _WARM_UPS}
    return Result(name, "Lint", ABOUT, rows, facts, settings)


def _row(what: str, sides: dict[str, list[float]], goal: Goal | None) -> Comparison:
    return Comparison(what, "s", "script", tuple(sides["lint"]), tuple(sides["script"]), goal=goal)


def _repository(folder: Path) -> Path:
    """100 applications, without anything to find but advice."""
    graph = _graph()
    for number in range(APPLICATIONS):
        name = f"app{number:03}"
        for step in ("a", "b"):
            _put(folder, f"{name}-model-{step}", _model_config(), "model.onnx", graph)
        for step in ("tokenize", "vote"):
            _put(folder, f"{name}-{step}", _step_config(step), "model.py", _MODEL_PY.encode())
        _put(folder, name, _ensemble_config(name), "keep", b"")
    return folder


def _put(folder: Path, name: str, config: str, file: str, content: bytes) -> None:
    version = folder / name / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(f'name: "{name}"\n{config}', encoding="utf-8")
    (version / file).write_bytes(content)


_MODEL_PY = """\
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        return [pb.InferenceResponse([]) for _ in requests]
"""


def _tensor(kind: str, name: str, data_type: str, dims: str) -> str:
    return f'{kind} {{\n  name: "{name}"\n  data_type: TYPE_{data_type}\n  dims: {dims}\n}}\n'


def _model_config() -> str:
    return (
        'backend: "onnxruntime"\nmax_batch_size: 32\n'
        + _tensor("input", "IDS", "FP32", "[ -1 ]")
        + _tensor("output", "LOGITS", "FP32", "[ -1 ]")
        + "instance_group { count: 1 kind: KIND_CPU }\n"
        + "dynamic_batching { max_queue_delay_microseconds: 500 }\n"
        + 'parameters { key: "intra_op_thread_count" value { string_value: "2" } }\n'
    )


def _step_config(step: str) -> str:
    tensors = {
        "tokenize": (("input", "TEXT", "STRING", "[ 1 ]"), ("output", "IDS", "FP32", "[ -1 ]")),
        "vote": (
            ("input", "A", "FP32", "[ -1 ]"),
            ("input", "B", "FP32", "[ -1 ]"),
            ("output", "LABEL", "STRING", "[ 1 ]"),
        ),
    }
    return 'backend: "python"\nmax_batch_size: 32\n' + "".join(_tensor(*one) for one in tensors[step])


def _ensemble_config(name: str) -> str:
    steps = (
        ("tokenize", {"TEXT": "TEXT"}, {"IDS": "ids"}),
        ("model-a", {"IDS": "ids"}, {"LOGITS": "a"}),
        ("model-b", {"IDS": "ids"}, {"LOGITS": "b"}),
        ("vote", {"A": "a", "B": "b"}, {"LABEL": "LABEL"}),
    )
    return (
        'platform: "ensemble"\nmax_batch_size: 32\n'
        + _tensor("input", "TEXT", "STRING", "[ 1 ]")
        + _tensor("output", "LABEL", "STRING", "[ 1 ]")
        + f"ensemble_scheduling {{\n{''.join(_step(f'{name}-{step}', *maps) for step, *maps in steps)}}}\n"
    )


def _step(model: str, *maps: dict[str, str]) -> str:
    entries = "".join(
        f'    {kind}_map {{ key: "{key}" value: "{value}" }}\n'
        for kind, pairs in zip(("input", "output"), maps, strict=True)
        for key, value in pairs.items()
    )
    return f'  step {{\n    model_name: "{model}"\n    model_version: -1\n{entries}  }}\n'


def _graph() -> bytes:
    """A chain of additions and multiplications with constants, 1 MiB of them."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    weights: list[Any] = []
    last = "IDS"
    for index in range(_NODES):
        weights.append(numpy_helper.from_array(np.zeros((1, 8738), np.float32), f"w{index}"))
        nodes.append(helper.make_node("Mul", [last, f"w{index}"], [f"m{index}"], name=f"layer/{index}/Mul"))
        last = "LOGITS" if index == _NODES - 1 else f"a{index}"
        nodes.append(helper.make_node("Add", [f"m{index}", f"w{index}"], [last], name=f"layer/{index}/Add"))
    shape = ["batch", "length"]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("IDS", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("LOGITS", TensorProto.FLOAT, shape)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content
