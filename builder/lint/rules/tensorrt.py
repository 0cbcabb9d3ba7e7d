"""TensorRT models, as far as a config and the head of a plan tell.

Sources are files and lines of github.com/triton-inference-server/tensorrt_backend at e2ef6d7. A plan's profiles and
tensors cannot be read without TensorRT: what depends on them is not checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.lint.finding import ADVICE, LOAD_ERROR
from builder.lint.graphs import ONNXRUNTIME, TENSORRT, backend, engines, model_file, parameter
from builder.lint.rule import Problem, model_rule
from builder.tools import engine_header

if TYPE_CHECKING:
    from builder.lint.model import Model, World
    from builder.lint.rule import Problems


@model_rule(
    "V2",
    LOAD_ERROR,
    "a plan is of the runtime that loads it",
    why="TensorRT does not read the plans of TensorRT-RTX",
    source="tensorrt_backend src/loader.cc:79 (deserializeCudaEngine); the plan's first four bytes",
)
def plan_kind(model: Model, _: World) -> Problems:
    for _version, path, engine in engines(model):
        if engine.kind == engine_header.TENSORRT_RTX:
            yield Problem(
                "is a plan of TensorRT-RTX, but the backend is tensorrt",
                "build it with TensorRT, on the GPU that is to serve it",
                path=path,
            )


@model_rule(
    "V6",
    ADVICE,
    "a plan begins as plans do that are known",
    why="an ONNX file, a pointer of Git LFS or a damaged file under the name model.plan does not load",
    source="TensorRT#1384, TensorRT#2915 (magic tag does not match)",
)
def plan_known(model: Model, _: World) -> Problems:
    for _version, path, engine in engines(model):
        if engine.kind == engine_header.UNKNOWN:
            yield Problem(
                f"begins with {engine.magic!r}, which is no plan that lint knows of",
                "check that it is a TensorRT plan",
                path=path,
            )


@model_rule(
    "O15",
    LOAD_ERROR,
    "TensorRT models have instances on GPUs",
    why='the backend answers "TensorRT backend supports only GPU device"',
    source="tensorrt_backend src/instance_state.cc:262",
)
def on_gpu(model: Model, _: World) -> Problems:
    if model.config is None or backend(model) != TENSORRT:
        return
    multi_device = (parameter(model.config, "enable_multi_device") or "").lower() in {"true", "1"}
    for index, group in enumerate(model.config.instance_group):
        kind = {group.KIND_CPU: "KIND_CPU", group.KIND_MODEL: "KIND_MODEL"}.get(group.kind, "")
        if kind == "KIND_CPU" or (kind == "KIND_MODEL" and not multi_device):
            yield Problem(f"instance_group has {kind}", "write kind: KIND_GPU", f"instance_group[{index}].kind")


@model_rule(
    "O13",
    LOAD_ERROR,
    "TensorRT's parameters have values that the backend knows",
    why="the backend answers \"Invalid value for 'execution_context_allocation_strategy'\"",
    source="tensorrt_backend src/model_state.cc:313-325,409",
)
def parameters(model: Model, _: World) -> Problems:
    if model.config is None or backend(model) != TENSORRT:
        return
    strategy = parameter(model.config, "execution_context_allocation_strategy")
    if strategy not in {None, "STATIC", "ON_PROFILE_CHANGE"}:
        yield Problem(
            f"parameter execution_context_allocation_strategy is {strategy!r}; allowed: STATIC, ON_PROFILE_CHANGE",
            "write one of them",
            "parameters",
        )


@model_rule(
    "V4",
    ADVICE,
    "there is a plan for GPUs that cc_model_filenames does not name",
    why="on any other compute capability the backend looks for the default file, and does not load the model",
    source="tensorrt_backend src/instance_state.cc:146-169",
)
def plan_for_others(model: Model, _: World) -> Problems:
    if model.config is None or backend(model) != TENSORRT or not model.config.cc_model_filenames:
        return
    for version in model.loaded_versions:
        if not model.tree.is_file(model.path(f"{version}/{model_file(model)}")):
            known = ", ".join(sorted(model.config.cc_model_filenames))
            yield Problem(
                f"version {version} has plans for compute capability {known}, and no {model_file(model)} for others",
                "serve it on these GPUs alone, or add a plan",
                "cc_model_filenames",
            )


@model_rule(
    "C16",
    ADVICE,
    "CUDA graphs are asked for where shapes are fixed",
    why="a graph is captured for one shape; dynamic shapes need a graph_spec each, others run without",
    source="tensorrt_backend src/instance_state.cc (cuda graph_spec); server#4804, server#6749",
)
def cuda_graphs(model: Model, _: World) -> Problems:
    if model.config is None or not model.config.optimization.cuda.graphs:
        return
    if backend(model) == ONNXRUNTIME:
        yield Problem(
            "optimization.cuda.graphs is read by the TensorRT backend alone",
            "remove it, or use trt_cuda_graph_enable of the tensorrt accelerator",
            "optimization.cuda.graphs",
        )
    elif not model.config.optimization.cuda.graph_spec and any(-1 in tensor.dims for tensor in model.config.input):
        yield Problem(
            "CUDA graphs with dynamic dims and without a graph_spec: only the batch sizes are captured",
            "add a graph_spec for each shape that comes",
            "optimization.cuda",
        )
