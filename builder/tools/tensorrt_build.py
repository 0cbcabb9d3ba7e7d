"""From an ONNX file to a plan for one compute capability, with any of the libraries of :mod:`builder.tools.tensorrt`.

Networks are strongly typed, always: precision is decided in the graph, and TensorRT 11 knows no other way.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from builder.artifacts import Tensor
from builder.errors import ModelError
from builder.tools import tensorrt_cache
from builder.tools.gpus import TENSORRT_RTX
from builder.tools.tensorrt import load
from builder.tools.tensorrt_errors import Failure, explain
from builder.tools.tensorrt_log import Log, Progress, monitor, spilled, watched

if TYPE_CHECKING:
    from pathlib import Path

    import tensorrt as trt

    from builder.artifacts import Profile
    from builder.tools.tensorrt import Library

_DTYPES: Final = {
    "FLOAT": "FP32",
    "HALF": "FP16",
    "BF16": "BF16",
    "INT64": "INT64",
    "INT32": "INT32",
    "INT8": "INT8",
    "UINT8": "UINT8",
    "BOOL": "BOOL",
}
"""TensorRT's name of a type → Triton's; the others cannot be a model's input or output there."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What the builder is told, in TensorRT's own words.

    Args:
        workspace_mib: memory that a layer may use while it runs; None: all of the GPU's.
        optimization_level: 0 to 5: how long it looks for faster kernels.
        version_compatible: later releases of the same major version may load the plan (TensorRT alone).
        hardware_compatibility: none | ampere_plus | same_compute_capability (TensorRT alone).
        strip_weights: the plan is written without weights: :mod:`builder.tools.tensorrt_refit` puts them back.
        tf32: fp32 matrices may be multiplied in TF32; TensorRT itself would, unless it is told not to.
    """

    workspace_mib: int | None = None
    optimization_level: int = 3
    version_compatible: bool = False
    hardware_compatibility: str = "none"
    strip_weights: bool = False
    tf32: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be built.

    Args:
        model: ``model.onnx``, with its external data beside it (hard links will do).
        runtime: tensorrt | tensorrt-rtx.
        capability: compute capability of the GPU, ``7.5``.
        profiles: at least one.
        options: for the builder.
        cache: file of the timing cache.
    """

    model: Path
    runtime: str
    capability: str
    profiles: tuple[Profile, ...]
    options: EngineOptions
    cache: Path


@dataclass(slots=True)
class Built:
    """What came of it, besides the plan."""

    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    version: str = ""  # that the library says of itself
    flags: tuple[str, ...] = ()  # TensorRT's names of the builder flags that were set
    layers: int = 0  # of the network, before fusion
    seconds: dict[str, float] = field(default_factory=dict)  # parse, build
    timing_cache: dict[str, str | int] = field(default_factory=dict)
    warnings: int = 0


def build(order: Order, plan: Path) -> Built:
    """Compiles a model, and writes the plan.

    Raises:
        BlockedError: the library, or a GPU that it needs, is not here.
        ModelError: TensorRT cannot compile the model, or not as the recipe asks.
        MachineError: there was not enough memory.
    """
    library = load(order.runtime)
    built, progress, log = Built(version=library.__version__), Progress(), Log(library)

    def call() -> None:
        _build(library, order, plan, built, progress, log)

    watched(f"engine for compute capability {order.capability}", progress, call)
    return built


def _build(library: Library, order: Order, plan: Path, built: Built, progress: Progress, log: Log) -> None:
    began = time.monotonic()
    # Its own messages of a failure go past the logger, to standard error; while it compiles, warnings to standard out.
    with spilled(1, 2):
        builder = library.Builder(log.logger)
        network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = library.OnnxParser(network, log.logger)
        parsed = parser.parse_from_file(str(order.model))
    if not parsed:
        raise explain(_failure(order, log, parser))
    built.seconds["parse"] = round(time.monotonic() - began, 3)
    config = builder.create_builder_config()
    config.progress_monitor = monitor(library, progress)
    _configure(library, config, order)
    for profile in order.profiles:
        config.add_optimization_profile(_profile(library, builder, network, profile))
    tensorrt_cache.use(config, order.cache)
    with spilled(1):
        serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise explain(_failure(order, log))
    with plan.open("wb") as stream:
        stream.write(serialized)
    built.seconds["build"] = round(time.monotonic() - began - built.seconds["parse"], 3)
    built.inputs = tuple(_tensor(network.get_input(index)) for index in range(network.num_inputs))
    built.outputs = tuple(_tensor(network.get_output(index)) for index in range(network.num_outputs))
    members: dict[str, trt.BuilderFlag] = library.BuilderFlag.__members__
    built.flags = tuple(sorted({flag.name for flag in members.values() if config.get_flag(flag)}))
    built.layers, built.warnings = network.num_layers, len(log.warnings)
    built.timing_cache = tensorrt_cache.publish(config, order.cache)


def _configure(library: Library, config: trt.IBuilderConfig, order: Order) -> None:
    options, flags = order.options, library.BuilderFlag
    wanted = {
        flags.TF32: options.tf32,
        flags.VERSION_COMPATIBLE: options.version_compatible,
        # Identical weights are put back: the kernels may be those that suit them.
        flags.STRIP_PLAN: options.strip_weights,
        flags.REFIT_IDENTICAL: options.strip_weights,
    }
    for flag, on in wanted.items():
        (config.set_flag if on else config.clear_flag)(flag)
    config.builder_optimization_level = options.optimization_level
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.hardware_compatibility != "none":
        levels = library.HardwareCompatibilityLevel.__members__
        config.hardware_compatibility_level = levels[options.hardware_compatibility.upper()]
    if order.runtime == TENSORRT_RTX:
        _aim(library, config, order.capability)


def _aim(library: Library, config: trt.IBuilderConfig, capability: str) -> None:
    """Names the GPU that TensorRT-RTX compiles for: every entry of the list that is announced has to be set."""
    named = library.ComputeCapability.__members__  # type: ignore[attr-defined]
    name = f"SM{capability.replace('.', '')}"
    if name not in named:
        known = ", ".join(one for one in named if one.startswith("SM"))
        raise ModelError(
            f"compute capability {capability}: TensorRT-RTX {library.__version__} does not compile for it; "
            f"it does for {known}",
            mend="take runtime tensorrt, which compiles on the GPU itself, or another GPU",
        )
    config.num_compute_capabilities = 1  # type: ignore[attr-defined]
    config.set_compute_capability(named[name], 0)  # type: ignore[attr-defined]


def _profile(
    library: Library, builder: trt.Builder, network: trt.INetworkDefinition, profile: Profile
) -> trt.IOptimizationProfile:
    """Each input's first dynamic axis is the batch; the others are lengths in tokens."""
    made = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = _shape(tensor)
        if -1 in shape[1:] and profile.sequence is None:
            raise ModelError(f"input {tensor.name} {list(shape)} has an axis of tokens, and the profile says none")
        least, best, most = (
            [
                size if size >= 0 else profile.batch[bound] if axis == 0 else (profile.sequence or (0, 0, 0))[bound]
                for axis, size in enumerate(shape)
            ]
            for bound in range(3)
        )
        made.set_shape(tensor.name, library.Dims(least), library.Dims(best), library.Dims(most))
    return made


def _tensor(tensor: trt.ITensor) -> Tensor:
    name = tensor.dtype.name
    if name not in _DTYPES:
        raise ModelError(f"tensor {tensor.name} is {name}, which no Triton model can take or give")
    return Tensor(tensor.name, _DTYPES[name], _shape(tensor))


def _shape(tensor: trt.ITensor) -> tuple[int, ...]:
    return tuple(tensor.shape[axis] for axis in range(len(tensor.shape)))


def _failure(order: Order, log: Log, parser: trt.OnnxParser | None = None) -> Failure:
    found = [] if parser is None else [parser.get_error(index) for index in range(parser.num_errors)]
    refused = tuple((error.node_operator(), error.node_name(), error.desc()) for error in found)
    return Failure(order.model, order.runtime, order.capability, order.profiles, order.options.workspace_mib,
                   tuple(log.errors), refused)  # fmt: skip
