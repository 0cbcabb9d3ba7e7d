"""The options of an ONNX model, as the C++ onnxruntime backend reads them when it loads.

Sources are files and lines of github.com/triton-inference-server/onnxruntime_backend at 00fd3e8.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from builder.lint.finding import ADVICE, LOAD_ERROR
from builder.lint.graphs import ONNXRUNTIME, backend, dtype_name, headers, parameter
from builder.lint.rule import Problem, model_rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.lint.graphs import Message
    from builder.lint.model import Model, World
    from builder.lint.rule import Problems

_INTEGER: Final = "a whole number"
_BOOLEAN: Final = "true or false"
_TEXT: Final = "a text"
_TRT_PARAMETERS: Final = {
    "precision_mode": "FP32, FP16, BF16 or INT8",
    "max_workspace_size_bytes": _INTEGER,
    "int8_calibration_table_name": _TEXT,
    "int8_use_native_calibration_table": _BOOLEAN,
    **dict.fromkeys(
        ("trt_max_partition_iterations", "trt_min_subgraph_size", "trt_dla_core", "trt_builder_optimization_level",
         "trt_auxiliary_streams", "trt_ep_context_embed_mode"), _INTEGER,
    ),
    **dict.fromkeys(
        ("trt_dla_enable", "trt_engine_cache_enable", "trt_dump_subgraphs", "trt_force_sequential_engine_build",
         "trt_context_memory_sharing_enable", "trt_layer_norm_fp32_fallback", "trt_timing_cache_enable",
         "trt_force_timing_cache", "trt_detailed_build_log", "trt_build_heuristics_enable", "trt_sparsity_enable",
         "trt_cuda_graph_enable", "trt_dump_ep_context_model"), _BOOLEAN,
    ),
    **dict.fromkeys(
        ("trt_engine_cache_path", "trt_engine_cache_prefix", "trt_timing_cache_path", "trt_tactic_sources",
         "trt_extra_plugin_lib_paths", "trt_profile_min_shapes", "trt_profile_max_shapes", "trt_profile_opt_shapes",
         "trt_ep_context_file_path"), _TEXT,
    ),
}  # fmt: skip
_CUDA_BOOLEANS: Final = ("do_copy_in_default_stream", "use_ep_level_unified_stream")
_PRECISIONS: Final = ("FP32", "FP16", "BF16", "INT8")
_NUMBER: Final = re.compile(r"\s*[+-]?\d+")  # as C's strtol: what follows the digits is the backend's to refuse
_BOOLEANS: Final = frozenset({"true", "false", "1", "0"})
_ACCELERATORS: Final = {"gpu": ("tensorrt", "cuda"), "cpu": ("openvino",)}


@model_rule(
    "O1",
    LOAD_ERROR,
    "execution accelerators and their parameters are those of the backend",
    why='the backend answers "unknown Execution Accelerator" or "unknown parameter"',
    source="onnxruntime_backend src/onnxruntime.cc:463-955 (ModelState::LoadModel)",
)
def accelerators(model: Model, world: World) -> Problems:
    for kind, index, accelerator in _accelerators(model):
        if kind == "gpu" and _on_cpu(model.config, world):
            continue  # not looked at
        place = f"optimization.execution_accelerators.{kind}_execution_accelerator[{index}]"
        if accelerator.name not in _ACCELERATORS[kind]:
            yield Problem(
                f"{accelerator.name!r} is no {kind} execution accelerator; there are {', '.join(_ACCELERATORS[kind])}",
                "name one of them, or remove it",
                f"{place}.name",
            )
        for key, value in sorted(accelerator.parameters.items()):
            if what := _wrong_parameter(accelerator.name, key, value):
                yield Problem(
                    f"{accelerator.name}: {what}", "see the README of onnxruntime_backend", f"{place}.parameters"
                )


def _accelerators(model: Model) -> Iterator[tuple[str, int, Message]]:
    if model.config is None or backend(model) != ONNXRUNTIME:
        return
    given = model.config.optimization.execution_accelerators
    for kind in _ACCELERATORS:
        for index, accelerator in enumerate(getattr(given, f"{kind}_execution_accelerator")):
            yield kind, index, accelerator


def _on_cpu(config: Message, world: World) -> bool:
    kinds = [group.kind for group in config.instance_group]
    only_cpu = bool(kinds) and all(kind == config.instance_group[0].KIND_CPU for kind in kinds)
    return only_cpu or world.options.gpus == 0


def _wrong_parameter(accelerator: str, key: str, value: str) -> str:
    if accelerator == "cuda":
        wrong = key in _CUDA_BOOLEANS and value.lower() not in _BOOLEANS
        return f"{key} must be {_BOOLEAN}, got {value!r}" if wrong else ""
    if accelerator != "tensorrt":
        return ""  # openvino: parameters are not looked at
    wanted = _TRT_PARAMETERS.get(key)
    if wanted is None:
        return f"unknown parameter {key!r}; there are {', '.join(sorted(_TRT_PARAMETERS))}"
    fits = (
        wanted is _TEXT
        or (wanted is _INTEGER and _NUMBER.match(value))
        or (wanted is _BOOLEAN and value.lower() in _BOOLEANS)
        or (key == "precision_mode" and value in _PRECISIONS)
    )
    return "" if fits else f"{key} must be {wanted}, got {value!r}"


@model_rule(
    "O5",
    LOAD_ERROR,
    "the backend's parameters have values that it can read",
    why="the backend parses them when it loads",
    source="onnxruntime_backend src/onnxruntime.cc:254-372",
)
def parameters(model: Model, _: World) -> Problems:
    if model.config is None or backend(model) != ONNXRUNTIME:
        return
    for key in ("execution_mode", "intra_op_thread_count", "inter_op_thread_count"):
        value = parameter(model.config, key)
        if value is not None and not _NUMBER.match(value):
            yield _parameter_problem(key, value, _INTEGER)
        elif key == "execution_mode" and value is not None and int(value) not in {0, 1}:
            yield _parameter_problem(key, value, "0 (sequential) or 1 (parallel)")
    for key in ("enable_mem_arena", "enable_mem_pattern"):
        value = parameter(model.config, key)
        if value is not None and value.lower() not in _BOOLEANS:
            yield _parameter_problem(key, value, _BOOLEAN)


def _parameter_problem(key: str, value: str, wanted: str) -> Problem:
    return Problem(f"parameter {key} must be {wanted}, got {value!r}", f"write {wanted}", "parameters")


@model_rule(
    "O4",
    ADVICE,
    "the TensorRT accelerator keeps its engines",
    why="without a cache onnxruntime builds the engine again at each load and for each new shape, for minutes",
    source="onnxruntime#16889, onnxruntime#12120, server#3701",
)
def engine_cache(model: Model, _: World) -> Problems:
    for kind, index, accelerator in _accelerators(model):
        if accelerator.name != "tensorrt":
            continue
        place = f"optimization.execution_accelerators.{kind}_execution_accelerator[{index}]"
        if accelerator.parameters.get("trt_engine_cache_enable", "").lower() not in {"true", "1"}:
            yield Problem(
                "tensorrt builds its engine at each load, for minutes",
                "set trt_engine_cache_enable and trt_engine_cache_path",
                place,
            )
        if not model.config.model_warmup:
            yield Problem(
                "tensorrt builds an engine at the first request of each new shape, and there is no warm-up",
                "add model_warmup with the shapes that come",
                place,
            )


@model_rule(
    "C7",
    ADVICE,
    "max_batch_size lies within the TensorRT accelerator's profile",
    why="a batch outside the profile makes onnxruntime build the engine anew, while requests wait",
    source="onnxruntime docs, TensorRT execution provider: trt_profile_max_shapes; server#7056",
)
def profile_batch(model: Model, _: World) -> Problems:
    for kind, index, accelerator in _accelerators(model):
        for name, shape in _profile(accelerator.parameters.get("trt_profile_max_shapes", "")):
            if shape and model.config.max_batch_size > shape[0]:
                yield Problem(
                    f"max_batch_size is {model.config.max_batch_size}, but trt_profile_max_shapes of {name!r} ends at "
                    f"{shape[0]}",
                    "build the profile for the largest batch",
                    f"optimization.execution_accelerators.{kind}_execution_accelerator[{index}].parameters",
                )


def _profile(text: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """``input_ids:32x256,mask:32x256`` → name and shape of each."""
    for part in filter(None, text.split(",")):
        name, _, sizes = part.strip().rpartition(":")
        yield name, tuple(int(size) for size in sizes.split("x") if size.isdecimal())


@model_rule(
    "O11",
    LOAD_ERROR,
    "sequence controls are inputs of the graph, of shape [1] and of the config's type",
    why="the backend checks them when it loads",
    source="onnxruntime_backend src/onnxruntime.cc:1531-1644",
)
def sequence_controls(model: Model, _: World) -> Problems:
    if model.config is None or not model.config.HasField("sequence_batching"):
        return
    skipped = 1 if model.config.max_batch_size > 0 else 0
    for graph, header in headers(model):
        known = {tensor.name: tensor for tensor in header.inputs}
        for index, control in enumerate(model.config.sequence_batching.control_input):
            tensor, wanted = known.get(control.name), _control_type(model.config, control)
            if tensor is None:
                what = f"is not an input of {graph.path}"
            elif tensor.dims is not None and tensor.dims[skipped:] != (1,):
                what = f"has the shape {list(tensor.dims)} in {graph.path}; [1] is wanted, after the batch axis"
            elif wanted and tensor.dtype != wanted:
                what = f"has {tensor.dtype} in {graph.path}, but the config's values are {wanted}"
            else:
                continue
            yield Problem(
                f"sequence control {control.name!r} {what}",
                "export the graph with such an input",
                f"sequence_batching.control_input[{index}]",
            )


def _control_type(config: Message, control: Message) -> str:
    first = next(iter(control.control), None)
    if first is None:
        return ""
    for field, name in (("int32_false_true", "INT32"), ("fp32_false_true", "FP32"), ("bool_false_true", "BOOL")):
        if getattr(first, field):
            return name
    return dtype_name(config, first.data_type).replace("INVALID", "")
