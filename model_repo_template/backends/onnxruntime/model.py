"""Triton's ``onnxruntime`` backend, in Python: stands in for NVIDIA's C++ one where that is not installed.

As a Python-based backend (``<backend-directory>/onnxruntime/model.py``) it serves every model whose config says
``backend: "onnxruntime"`` or ``platform: "onnxruntime_onnx"``. What it reads from the config, and what it makes of it,
is what the C++ backend does (onnxruntime_backend 00fd3e8, ``src/onnxruntime.cc``): the parameters of
``ModelState::ModelState``, the checks of ``ValidateInputs``/``ValidateOutputs``, the completion of ``AutoComplete…``.
Parameters that the C++ backend does not know are ignored, here as there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from tritonsmith_batches import Arrays, BatchedModel, Config, dims_agree, parameter, stated_dims

# onnxruntime's names of element types → Triton's. BF16 has no numpy type, so a Python backend cannot carry it.
TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
}
DEFAULT_MAX_BATCH_SIZE = 4  # the server's default for --backend-config=default-max-batch-size


class TritonPythonModel(BatchedModel):
    """One instance of one model: one process, one onnxruntime session."""

    runtime = "onnx runtime"

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Completes a config without inputs or outputs from the graph."""
        config = auto_complete_model_config.as_dict()
        if config["input"] and config["output"]:
            return auto_complete_model_config
        path = model_path(Path(pb_utils.get_model_dir()), config)
        session = new_session(path, session_options(config), ["CPUExecutionProvider"])
        complete(auto_complete_model_config, session)
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the graph and checks it against the config."""
        config = json.loads(args["model_config"])
        check_accelerators(config)
        path = model_path(Path(args["model_repository"], args["model_version"]), config)
        self.session = new_session(path, session_options(config), providers(args["model_instance_kind"]))
        self.run_options = run_options(config)
        self.batched = config["max_batch_size"] > 0
        check_tensors(config, "input", self.session.get_inputs(), batched=self.batched)
        check_tensors(config, "output", self.session.get_outputs(), batched=self.batched)
        self.output_names = [tensor["name"] for tensor in config["output"]]
        self.text_inputs = {tensor["name"] for tensor in config["input"] if tensor["data_type"] == "TYPE_STRING"}

    def read(self, request: Any) -> Arrays:
        """The request's inputs by name. Text comes as bytes, and onnxruntime wants str."""
        arrays = super().read(request)
        for name in self.text_inputs & arrays.keys():
            try:
                arrays[name] = decode(arrays[name])
            except UnicodeDecodeError as error:
                raise ValueError(f"input '{name}' is not UTF-8: {error}") from None
        return arrays

    def run(self, members: list[Arrays], *, last: bool) -> list[np.ndarray]:  # noqa: ARG002 - the outputs are new ones
        """Runs requests of equal item shapes as one batch."""
        inputs = members[0]
        if len(members) > 1:
            inputs = {name: np.concatenate([arrays[name] for arrays in members]) for name in members[0]}
        return self.session.run(self.output_names, inputs, self.run_options)

    def finalize(self) -> None:
        """Gives the session's memory back before the process ends."""
        self.session = None


def decode(array: np.ndarray) -> np.ndarray:
    """BYTES as onnxruntime wants them: an array of str."""
    return np.array([item.decode() for item in array.reshape(-1)], dtype=object).reshape(array.shape)


def model_path(folder: Path, config: Config) -> str:
    """The graph's file: ``default_model_filename``, or that name inside a folder of that name."""
    name = config.get("default_model_filename") or "model.onnx"
    path = folder / name
    if path.is_dir():
        path = path / "model.onnx"
    if not path.exists():
        raise pb_utils.TritonModelException(f"unable to find '{path}' for model '{config['name']}'")
    return str(path)


def new_session(path: str, options: Any, chosen: list[str]) -> Any:
    """Loads a graph. The import waits until here: Triton asks a complete config for completion, too."""
    import onnxruntime

    return onnxruntime.InferenceSession(path, sess_options=options, providers=chosen)


def providers(kind: str) -> list[str]:
    """CUDA on a GPU instance where this onnxruntime has it, else the CPU."""
    import onnxruntime

    if kind == "GPU" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]


def session_options(config: Config) -> Any:
    """What the config's ``parameters`` and ``optimization`` say about the session."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = {
        -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    }.get(level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    mode = integer(config, "execution_mode")
    if mode not in (0, 1):
        raise pb_utils.TritonModelException(f"parameter execution_mode is {mode}, must be 0 or 1")
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL if mode else ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = max(0, integer(config, "intra_op_thread_count"))
    options.inter_op_num_threads = max(0, integer(config, "inter_op_thread_count"))
    options.enable_cpu_mem_arena = boolean(config, "enable_mem_arena", default=True)
    options.enable_mem_pattern = boolean(config, "enable_mem_pattern", default=True)
    key = "session.use_device_allocator_for_initializers"
    if (value := parameter(config, key)) is not None:
        options.add_session_config_entry(key, value)
    return options


def run_options(config: Config) -> Any:
    """What the config's ``parameters`` say about each run; None where they say nothing."""
    key = "memory.enable_memory_arena_shrinkage"
    if (value := parameter(config, key)) is None:
        return None
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry(key, value)
    return options


def check_accelerators(config: Config) -> None:
    """Refuses what this stand-in cannot do, instead of leaving it out silently."""
    accelerators = config.get("optimization", {}).get("execution_accelerators", {})
    names = [entry["name"] for entry in accelerators.get("cpu_execution_accelerator", [])]
    if names:
        raise pb_utils.TritonModelException(f"execution accelerators {names} are not available in this backend")


def integer(config: Config, key: str) -> int:
    """An integer parameter; 0 where it is not given."""
    value = parameter(config, key)
    try:
        return int(value) if value is not None else 0
    except ValueError:
        raise pb_utils.TritonModelException(f"parameter {key} is '{value}', must be an integer") from None


def boolean(config: Config, key: str, *, default: bool) -> bool:
    """A parameter that is true, false, 1 or 0."""
    value = parameter(config, key)
    known = {"true": True, "1": True, "false": False, "0": False}
    if value is None:
        return default
    if value.lower() not in known:
        raise pb_utils.TritonModelException(f"parameter {key} is '{value}', must be true, false, 1 or 0")
    return known[value.lower()]


def graph_dims(tensor: Any) -> list[int]:
    """A graph tensor's shape with -1 for every dynamic axis."""
    return [size if isinstance(size, int) else -1 for size in tensor.shape]


def graph_type(tensor: Any) -> str:
    """Triton's name of a graph tensor's type."""
    if tensor.type not in TYPES:
        raise pb_utils.TritonModelException(f"tensor '{tensor.name}' has the unsupported type {tensor.type}")
    return TYPES[tensor.type]


def check_tensors(config: Config, kind: str, tensors: list[Any], *, batched: bool) -> None:
    """Checks names, types and dims of the config against the graph's."""
    graph = {tensor.name: tensor for tensor in tensors}
    stated = {tensor["name"]: tensor for tensor in config[kind]}
    if unknown := stated.keys() - graph.keys():
        raise pb_utils.TritonModelException(
            f"unexpected inference {kind} {sorted(unknown)}, allowed {kind}s are: {', '.join(sorted(graph))}"
        )
    if kind == "input" and (missing := graph.keys() - stated.keys()):
        raise pb_utils.TritonModelException(f"the model needs the inputs {sorted(missing)}, the config has no such")
    for name, tensor in stated.items():
        if tensor["data_type"] != graph_type(graph[name]):
            raise pb_utils.TritonModelException(
                f"{kind} '{name}': data_type is {tensor['data_type']}, the model has {graph_type(graph[name])}"
            )
        dims = stated_dims(tensor, batched=batched)
        if not dims_agree(dims, graph_dims(graph[name])):
            raise pb_utils.TritonModelException(
                f"{kind} '{name}': the model expects the shape {graph_dims(graph[name])}, the config says {dims}"
            )


def complete(config: Any, session: Any) -> None:
    """Writes the graph's inputs, outputs and batching into the config, as the C++ backend's AutoComplete does."""
    tensors = [*session.get_inputs(), *session.get_outputs()]
    can_batch = all(graph_dims(tensor)[:1] == [-1] for tensor in tensors)
    stated = config.as_dict()
    size = stated["max_batch_size"]
    if not can_batch and size > 0:
        raise pb_utils.TritonModelException(
            f"autofill failed for model '{stated['name']}': model does not support batching while non-zero "
            "max_batch_size is specified"
        )
    if can_batch and size == 0:
        size = DEFAULT_MAX_BATCH_SIZE
        config.set_max_batch_size(size)
    if size > 1 and "sequence_batching" not in stated:
        config.set_dynamic_batching()
    first = 1 if size > 0 else 0
    for key, add, found in (
        ("input", config.add_input, session.get_inputs()),
        ("output", config.add_output, session.get_outputs()),
    ):
        for tensor in found if not stated[key] else ():
            dims = graph_dims(tensor)[first:]
            if not dims and size > 0:
                raise pb_utils.TritonModelException(
                    f"tensor '{tensor.name}' has no axis but the batch's: state it in the config, with a reshape"
                )
            add({"name": tensor.name, "data_type": graph_type(tensor), "dims": dims or [1]})
