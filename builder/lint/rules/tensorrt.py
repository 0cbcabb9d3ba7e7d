"""TensorRT models, as far as a config and the head of a plan tell.

Sources are files and lines of github.com/triton-inference-server/tensorrt_backend at e2ef6d7. A plan's profiles and
tensors cannot be read without TensorRT: of anybody's plan, what depends on them is not checked. tritonsmith's own
repositories tell the profiles in their ``build.json``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.lint.finding import ADVICE, HOSTING_ERROR, LOAD_ERROR
from builder.lint.graphs import ONNXRUNTIME, TENSORRT, backend, model_file, parameter
from builder.lint.plans import RUNTIMES, TENSORRT_RTX, of_other_versions, plans, told_profiles
from builder.lint.rule import Problem, model_rule
from builder.lint.rules.hosts import HOSTS
from builder.tools import engine_header
from builder.tools import engine_profiles as profiles
from builder.tools.compatibility import loads

if TYPE_CHECKING:
    from builder.lint.model import Model, World
    from builder.lint.rule import Problems


@model_rule(
    "V2",
    LOAD_ERROR,
    "a plan is of the runtime that loads it",
    why="TensorRT does not read the plans of TensorRT-RTX, nor that those of TensorRT",
    source="tensorrt_backend src/loader.cc:79 (deserializeCudaEngine); the plan's first four bytes",
)
def plan_kind(model: Model, _: World) -> Problems:
    for plan in plans(model):
        if plan.head.kind in RUNTIMES and plan.head.kind != backend(model):
            yield Problem(
                f"is a plan of {RUNTIMES[plan.head.kind]}, but the backend is {backend(model)}",
                f"build it with {RUNTIMES[backend(model)]}, for the GPU that is to serve it",
                path=plan.path,
            )


@model_rule(
    "V6",
    ADVICE,
    "a plan begins as plans do that are known",
    why="an ONNX file, a pointer of Git LFS or a damaged file under the name model.plan does not load",
    source="TensorRT#1384, TensorRT#2915 (magic tag does not match)",
)
def plan_known(model: Model, _: World) -> Problems:
    for plan in plans(model):
        if plan.head.kind == engine_header.UNKNOWN:
            yield Problem(
                f"begins with {plan.head.magic!r}, which is no plan that lint knows of",
                "check that it is a TensorRT plan",
                path=plan.path,
            )


@model_rule(
    "V7",
    LOAD_ERROR,
    "a plan is not of a newer TensorRT than the server's, nor of another major version",
    why="TensorRT loads a plan of its own version, and of an older one of its major version if that was made for it",
    source="docs.nvidia.com/deeplearning/tensorrt, Version Compatibility; server#317, server#6064",
)
def plan_version(model: Model, world: World) -> Problems:
    for plan, serving in of_other_versions(model, world):
        if not loads(serving, plan.head.version, version_compatible=True):
            yield Problem(
                f"is a plan of TensorRT {plan.head.version}; Triton {world.options.release} has {serving}",
                f"build it with TensorRT {serving}, or serve it with a Triton release that has {plan.head.version}",
                path=plan.path,
            )


@model_rule(
    "V8",
    ADVICE,
    "a plan is of the server's own TensorRT",
    why="one of an older version loads only if it was made version compatible, and the server is told to take such",
    source="tensorrt_backend src/tensorrt.cc:168 (version-compatible); a plan does not tell whether it is",
)
def plan_version_exact(model: Model, world: World) -> Problems:
    for plan, serving in of_other_versions(model, world):
        if loads(serving, plan.head.version, version_compatible=True):
            yield Problem(
                f"is a plan of TensorRT {plan.head.version}; Triton {world.options.release} has {serving}",
                "if it is version compatible, start the server with "
                "--backend-config=tensorrt,version-compatible=true; else build it anew",
                path=plan.path,
            )


@model_rule(
    "V9",
    HOSTING_ERROR,
    "a model's backend is in the host's image",
    why="Triton looks for Python-based backends in the server's folder of backends alone: SageMaker's image has none "
    "for TensorRT-RTX",
    source="core src/backend_model.cc:428",
    hosts=HOSTS,
)
def backend_there(model: Model, _: World) -> Problems:
    if backend(model) == TENSORRT_RTX:
        yield Problem(
            "the backend tensorrt_rtx is not in SageMaker's image",
            "build for runtime tensorrt, or serve it in an image of your own: docs/how-to/tensorrt-rtx.md",
            "backend",
        )


@model_rule(
    "C8",
    LOAD_ERROR,
    "the profiles of an instance group are in the engine",
    why='the backend answers "configuration specified invalid profile", or cannot set it (of engines that build.json '
    "tells of)",
    source="tensorrt_backend src/model_state.cc:786, src/instance_state.cc:2183; server#4384 #4445 #3014",
)
def profiles_there(model: Model, world: World) -> Problems:
    known = told_profiles(model, world)
    for index, group in enumerate(model.config.instance_group if known else ()):
        for number, name in enumerate(group.profile):
            if name.isdecimal() and int(name) >= len(known):
                yield Problem(
                    f"there is no profile {name}; the engine has {len(known)}, from 0",
                    "name profiles of the engine, or none for the first",
                    f"instance_group[{index}].profile[{number}]",
                )


@model_rule(
    "C46",
    LOAD_ERROR,
    "max_batch_size lies within the engine's profiles",
    why='where configs are completed, the backend answers "configuration specified max-batch 9 but TensorRT engine '
    'only supports max-batch 8" (of engines that build.json tells of)',
    source="tensorrt_backend src/model_state.cc:689,749; server#7056 #5013",
)
def batch_within(model: Model, world: World) -> Problems:
    known = told_profiles(model, world)
    if not known or world.options.strict:
        return
    used = {int(name) for group in model.config.instance_group for name in group.profile if name.isdecimal()} or {0}
    most = max((known[index].batch[2] for index in used if index < len(known)), default=0)
    if 0 < most < model.config.max_batch_size:
        yield Problem(
            f"is {model.config.max_batch_size}, but the engine's profiles take {most} rows at most",
            f"write {most}, or build the engine for larger batches",
            "max_batch_size",
        )


@model_rule(
    "C47",
    ADVICE,
    "every batch that can form lies inside a profile of each instance group",
    why="Triton gives a batch to any instance; where no profile holds it, all of its requests fail (of engines that "
    "build.json tells of)",
    source="tensorrt_backend src/instance_state.cc:1832,4287",
)
def batches_fit(model: Model, world: World) -> Problems:
    known = told_profiles(model, world)
    lengths = sorted({edge for profile in known if profile.sequence for edge in profile.sequence[::2]})
    for index, group in enumerate(model.config.instance_group if known else ()):
        named = [int(name) for name in group.profile if name.isdecimal() and int(name) < len(known)]
        own = known if backend(model) == TENSORRT_RTX else known[:1]
        chosen = [known[number] for number in named] or own
        most, length = profiles.largest_batch(chosen, lengths), profiles.narrowest(chosen, lengths)
        if not group.passive and most < model.config.max_batch_size:
            tokens = "" if length is None else f" with {length} tokens"
            yield Problem(
                f"no profile of the group takes a batch of {most + 1}{tokens}; max_batch_size is "
                f"{model.config.max_batch_size}",
                "lower max_batch_size, or name more profiles",
                f"instance_group[{index}]",
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
