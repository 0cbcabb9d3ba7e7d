"""Small repositories that load, as files in memory: what mutants are made of, and the good sides of rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.tiny_graphs import add_model, config

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Files = dict[str, str | bytes]  # path in the repository → content; a path that ends with / is an empty folder

# Answers everything, decoupled or not, so that what a config says about the model is never wrong.
MODEL_PY = """\
import json
import triton_python_backend_utils as pb


class TritonPythonModel:
    def initialize(self, args):
        self.decoupled = json.loads(args["model_config"]).get("model_transaction_policy", {}).get("decoupled", False)

    def execute(self, requests):
        if not self.decoupled:
            return [pb.InferenceResponse([]) for _ in requests]
        for request in requests:
            request.get_response_sender().send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
COMPLETE_PY = (
    MODEL_PY
    + """
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "A", "data_type": "TYPE_FP32", "dims": [-1]})
        config.add_output({"name": "C", "data_type": "TYPE_FP32", "dims": [4]})
        config.set_max_batch_size(8)
        config.set_dynamic_batching()
        return config
"""
)
LOOPED_PY = (
    MODEL_PY
    + """
    @staticmethod
    def auto_complete_config(config):
        known = [one["name"] for one in config.as_dict()["input"]]
        tensors = [{"name": name, "data_type": "TYPE_FP32", "dims": [4]} for name in ("A", "B")]
        for tensor in tensors:
            if tensor["name"] not in known:
                config.add_input(tensor)
        output = dict(name="C", data_type="TYPE_FP32")
        output["dims"] = [4]
        config.add_output(output)
        size = config.as_dict()["max_batch_size"]
        if size == 0:
            config.set_max_batch_size(size + 8)
        policy = {"decoupled": False}
        config.set_model_transaction_policy(policy)
        return config
"""
)


@dataclass
class Base:
    """A repository; ``top`` is the model to load. ``fixed`` are the only fields of configs that may be changed."""

    top: str
    files: Files
    fixed: tuple[str, ...] = field(default=())


def configs(base: Base) -> list[str]:
    """The paths of the configs; the top model's counts as often as all others."""
    paths = [path for path in base.files if path.endswith("/config.pbtxt")]
    return paths + [path for path in paths if path.startswith(f"{base.top}/")] * max(1, len(paths) - 1)


def write(files: Mapping[str, str | bytes], folder: Path) -> None:
    """Writes files; a path that ends with ``/`` is an empty folder, a content that begins with ``->`` a link."""
    for name, content in files.items():
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        if path.is_symlink() or path.exists():
            continue  # shared with another case
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str) and content.startswith("->"):
            path.symlink_to(content[2:])
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)


def python(name: str, text: str, *, code: str = MODEL_PY, **more: str | bytes) -> Files:
    """A Python model; ``more`` by path, with ``__`` for ``/`` and ``_`` for the dot."""
    extra = {f"{name}/{key.replace('__', '/').replace('_', '.')}": value for key, value in more.items()}
    return {f"{name}/config.pbtxt": text, f"{name}/1/model.py": code, **extra}


def add(p: str) -> Base:
    """Dynamic batching, as most models have it."""
    more = """\
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 priority_levels: 2
  default_priority_level: 1 default_queue_policy { timeout_action: REJECT default_timeout_microseconds: 10 }
  priority_queue_policy { key: 2 value { max_queue_size: 3 } } }
instance_group [ { count: 1 kind: KIND_CPU } ]
"""
    text = f'name: "{p}add"\n' + config("python", {"A": "FP32 -1", "B": "FP32 -1"}, {"C": "FP32 -1"}, more=more)
    return Base(f"{p}add", python(f"{p}add", text))


def plain(p: str) -> Base:
    """No batching; reshape, labels, warm-up, two versions, parameters."""
    text = f"""\
name: "{p}plain"
backend: "python"
max_batch_size: 0
input [
  {{ name: "IMAGE" data_type: TYPE_UINT8 format: FORMAT_NHWC dims: [ 2, 2, 3 ] reshape {{ shape: [ 12 ] }} }},
  {{ name: "TEXT" data_type: TYPE_STRING dims: [ -1 ] optional: true }}
]
output {{ name: "P" data_type: TYPE_FP32 dims: [ 2, -1 ] label_filename: "labels.txt" }}
output {{ name: "Q" data_type: TYPE_INT64 dims: [ 1 ] reshape {{ shape: [ 1, 1 ] }} }}
version_policy {{ specific {{ versions: [ 1, 3 ] }} }}
instance_group {{ count: 1 kind: KIND_AUTO }}
model_warmup {{
  name: "first" batch_size: 1 count: 2
  inputs {{ key: "IMAGE" value {{ data_type: TYPE_UINT8 dims: [ 2, 2, 3 ] zero_data: true }} }}
  inputs {{ key: "TEXT" value {{ data_type: TYPE_STRING dims: [ 2 ] input_data_file: "text" }} }}
}}
parameters {{ key: "FORCE_CPU_ONLY_INPUT_TENSORS" value {{ string_value: "no" }} }}
parameters {{ key: "mine" value {{ string_value: "x" }} }}
response_cache {{ enable: false }}
optimization {{ input_pinned_memory {{ enable: false }} priority: PRIORITY_MIN }}
metric_tags {{ key: "a" value: "b" }}
"""
    name = f"{p}plain"
    files = python(name, text, labels_txt="yes\nno\n", warmup__text=b"\1\0\0\0a\2\0\0\0bb")
    return Base(name, files | {f"{name}/3/model.py": MODEL_PY})


def completed(p: str) -> Base:
    """``model.py`` completes the config."""
    return Base(
        f"{p}completed",
        python(f"{p}completed", 'backend: "python"\ninstance_group { count: 1 }\n', code=COMPLETE_PY),
    )


def looped(p: str) -> Base:
    """``model.py`` completes the config, with variables, a loop and a look at the config."""
    more = "max_batch_size: 4\ninput { name: 'A' data_type: TYPE_FP32 dims: [ 2 ] }\ninstance_group { count: 1 }\n"
    output = "output { name: 'C' data_type: TYPE_FP32 dims: [ 4 ] }\n"
    return Base(f"{p}looped", python(f"{p}looped", 'backend: "python"\n' + more + output, code=LOOPED_PY))


def bare(p: str) -> Base:
    """No config at all."""
    return Base(f"{p}bare", {f"{p}bare/1/model.py": COMPLETE_PY, f"{p}bare/2/model.py": COMPLETE_PY})


def decoupled(p: str) -> Base:
    """Decoupled, with a batch input and output."""
    text = config("python", {"A": "INT32 1", "B": "INT32 -1 2"}, {"C": "FP64 1"}, max_batch_size=0) + (
        "model_transaction_policy { decoupled: true }\n"
        "batch_input { kind: BATCH_ITEM_SHAPE target_name: 'S' data_type: TYPE_INT32 source_input: 'A' }\n"
        "batch_output { kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: 'C' source_input: 'A' }\n"
    )
    return Base(f"{p}decoupled", python(f"{p}decoupled", text))


def sequence(p: str) -> Base:
    """Sequences: controls, states with initial values."""
    text = (
        config("python", {"A": "FP32 2"}, {"C": "FP32 2"}, max_batch_size=4)
        + """\
sequence_batching {
  max_sequence_idle_microseconds: 5000
  direct { max_queue_delay_microseconds: 10 minimum_slot_utilization: 0.5 }
  control_input [ { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] },
    { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY fp32_false_true: [ 0, 1 ] } ] },
    { name: "END" control { kind: CONTROL_SEQUENCE_END bool_false_true: [ false, true ] } },
    { name: "ID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } } ]
  state [ { input_name: "IN" output_name: "OUT" data_type: TYPE_INT32 dims: [ 2, -1 ]
    initial_state: { name: "zero" data_type: TYPE_INT32 dims: [ 2, 1 ] zero_data: true } },
    { input_name: "IN2" output_name: "OUT2" data_type: TYPE_FP32 dims: [ 1 ]
    initial_state: { name: "file" data_type: TYPE_FP32 dims: [ 1 ] data_file: "state" } } ]
}
"""
    )
    return Base(f"{p}sequence", python(f"{p}sequence", text) | {
        f"{p}sequence/initial_state/state": b"\0\0\0\0"
    })  # fmt: skip


def oldest(p: str) -> Base:
    """Sequences, oldest first."""
    text = config("python", {"A": "FP32 2"}, {"C": "FP32 2"}, max_batch_size=4) + (
        "sequence_batching { oldest { max_candidate_sequences: 4 preferred_batch_size: [ 2, 4 ] } }\n"
    )
    return Base(f"{p}oldest", python(f"{p}oldest", text))


def environment(p: str) -> Base:
    """A Python environment of its own, unpacked."""
    name = f"{p}environment"
    text = config("python", {"A": "BF16 2"}, {"C": "BOOL -1"}, max_batch_size=1) + (
        'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "$$TRITON_MODEL_DIRECTORY/env" } }\n'
        'default_model_filename: "own.py"\ninstance_group { kind: KIND_MODEL }\n'
    )
    files = {f"{name}/config.pbtxt": text, f"{name}/1/own.py": MODEL_PY, f"{name}/env/bin/activate": ""}
    return Base(name, files)


def onnx(p: str) -> Base:
    """The stand-in of the onnxruntime backend: only for rules of the core."""
    tensors = config("onnxruntime", {"A": "FP32 -1", "B": "FP32 -1"}, {"C": "FP32 -1"})
    text = 'platform: "onnxruntime_onnx"\n' + tensors + "dynamic_batching { }\ninstance_group { count: 1 }\n"
    fixed = ("dynamic_batching", "instance_group", "platform", "response_cache", "version_policy", "metric_tags")
    return Base(f"{p}onnx", {f"{p}onnx/config.pbtxt": text, f"{p}onnx/1/model.onnx": add_model()}, fixed)


def step(model: str, inputs: Mapping[str, str], outputs: Mapping[str, str], version: int = -1) -> str:
    """A step of an ensemble: the model's tensors → the ensemble's."""
    maps = [("input_map", key, value) for key, value in inputs.items()]
    maps += [("output_map", key, value) for key, value in outputs.items()]
    lines = "".join(f'\n    {kind} {{ key: "{key}" value: "{value}" }}' for kind, key, value in maps)
    return f'  step {{ model_name: "{model}" model_version: {version}{lines} }}\n'


def ensemble(
    name: str, inputs: Mapping[str, str], outputs: Mapping[str, str], steps: str, *, max_batch_size: int = 8
) -> Files:
    """An ensemble with an empty version folder."""
    tensors = config("", inputs, outputs, max_batch_size=max_batch_size).partition("\n")[2]
    text = f'name: "{name}"\nplatform: "ensemble"\n{tensors}ensemble_scheduling {{\n{steps}}}\n'
    return {f"{name}/config.pbtxt": text, f"{name}/1/": ""}


def step_model(name: str, inputs: Mapping[str, str], outputs: Mapping[str, str], **more: int | str) -> Files:
    """A Python model for a step."""
    return python(name, config("python", inputs, outputs, **more) + "instance_group { count: 1 kind: KIND_CPU }\n")  # type: ignore[arg-type]


def serial(p: str) -> Base:
    """Two steps in a row."""
    steps = step(f"{p}one", {"A": "IN"}, {"B": "MID"}) + step(f"{p}two", {"B": "MID"}, {"C": "OUT"}, 1)
    files = ensemble(f"{p}serial", {"IN": "STRING 1"}, {"OUT": "FP32 4"}, steps)
    files |= step_model(f"{p}one", {"A": "STRING 1"}, {"B": "INT64 -1"})
    files |= step_model(f"{p}two", {"B": "INT64 -1"}, {"C": "FP32 4"}, max_batch_size=16)
    return Base(f"{p}serial", files)


def fan(p: str) -> Base:
    """One input to two models, joined; no batching at the ends."""
    steps = (
        step(f"{p}left", {"A": "IN"}, {"B": "L", "N": "COUNT"})
        + step(f"{p}right", {"A": "IN"}, {"B": "R"})
        + step(f"{p}join", {"X": "L", "Y": "R"}, {"Z": "OUT"})
    )
    files = ensemble(f"{p}fan", {"IN": "FP32 2,2"}, {"OUT": "FP32 2", "COUNT": "INT32 1"}, steps, max_batch_size=0)
    files |= step_model(f"{p}left", {"A": "FP32 2,2"}, {"B": "FP32 2", "N": "INT32 1"}, max_batch_size=0)
    files |= step_model(f"{p}right", {"A": "FP32 -1,2"}, {"B": "FP32 -1"}, max_batch_size=0)
    join = {"X": "FP32 2", "Y": "FP32 2", "MAYBE": "FP32 1"}
    files |= step_model(f"{p}join", join, {"Z": "FP32 2"}, max_batch_size=0)
    path = f"{p}join/config.pbtxt"
    files[path] = str(files[path]).replace('name: "MAYBE"', 'name: "MAYBE" optional: true')
    return Base(f"{p}fan", files)


def nested(p: str) -> Base:
    """An ensemble in an ensemble, with a model that does not batch."""
    inner = ensemble(f"{p}inner", {"IN": "FP32 3"}, {"OUT": "FP32 3"}, step(f"{p}core", {"A": "IN"}, {"B": "OUT"}))
    steps = step(f"{p}inner", {"IN": "TOP"}, {"OUT": "MID"}) + step(f"{p}flat", {"A": "MID"}, {"B": "END"})
    files = ensemble(f"{p}nested", {"TOP": "FP32 3"}, {"END": "FP32 3"}, steps, max_batch_size=4)
    files |= inner | step_model(f"{p}core", {"A": "FP32 3"}, {"B": "FP32 3"}, max_batch_size=8)
    files |= step_model(f"{p}flat", {"A": "FP32 -1,3"}, {"B": "FP32 -1,3"}, max_batch_size=0)
    return Base(f"{p}nested", files)


def streams(p: str) -> Base:
    """A decoupled model in an ensemble."""
    steps = (
        step(f"{p}many", {"A": "IN"}, {"B": "X", "N": "Y"})
        + step(f"{p}after", {"A": "X", "B": "Y"}, {"C": "OUT"})
    )  # fmt: skip
    files = ensemble(f"{p}streams", {"IN": "FP32 1"}, {"OUT": "FP32 1"}, steps, max_batch_size=0)
    files |= step_model(f"{p}many", {"A": "FP32 1"}, {"B": "FP32 1", "N": "FP32 1"}, max_batch_size=0)
    path = f"{p}many/config.pbtxt"
    files[path] = str(files[path]) + "model_transaction_policy { decoupled: true }\n"
    files |= step_model(f"{p}after", {"A": "FP32 1", "B": "FP32 1"}, {"C": "FP32 1"}, max_batch_size=0)
    return Base(f"{p}streams", files)


BASES: Mapping[str, Callable[[str], Base]] = {
    make.__name__: make
    for make in (
        add, plain, completed, looped, bare, decoupled, sequence, oldest, environment, onnx, serial, fan, nested,
        streams,
    )
}  # fmt: skip
