"""Compiles one plan: ``python -m builder.tools.tensorrt_child ORDER``, an :class:`~builder.tools.tensorrt_build.Order`.

It answers with lines of JSON on its standard output: ``{"at": …, "seconds": …}`` every few seconds, and at last what
:class:`~builder.tools.tensorrt_build.Built` holds; or ``{"said": […], "refused": […]}``, what the library said when it
failed; or ``{"error": …}``. What the library prints goes to standard error.

Networks are strongly typed, always: precision is decided in the graph, and TensorRT 11 knows no other way.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder.errors import ModelError, TritonsmithError
from builder.tools import tensorrt_cache
from builder.tools.gpus import TENSORRT_RTX
from builder.tools.tensorrt import load
from builder.tools.tensorrt_log import Log, Progress, monitor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import tensorrt as trt

    from builder.artifacts import Json
    from builder.tools.tensorrt import Library

FIRST_SECONDS: Final = 2.0
NEXT_SECONDS: Final = 5.0
"""When progress is told."""

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


class _RefusedError(Exception):
    """The library did not take the model."""

    def __init__(self, said: Sequence[str], refused: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__()
        self.answer = {"said": list(said), "refused": list(refused)}


def compile_plan(order: Mapping[str, Any], progress: Progress) -> dict[str, Json]:
    """Writes a plan; what is known of it.

    Raises:
        _RefusedError: the library did not take the model.
        TritonsmithError: the library is not here; or the model cannot be what the order asks.
    """
    began = time.monotonic()
    library = load(order["runtime"])
    log, seconds = Log(library), {"import": time.monotonic() - began}
    builder = library.Builder(log.logger)
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(library, network, order["model"], log)
    seconds["parse"] = time.monotonic() - began - seconds["import"]
    progress.state = "compiling"
    config = builder.create_builder_config()
    config.progress_monitor = monitor(library, progress)
    _configure(library, config, order)
    for profile in order["profiles"]:
        config.add_optimization_profile(_profile(library, builder, network, profile))
    if order["cache"]:
        tensorrt_cache.use(config, Path(order["cache"]))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _RefusedError(log.errors)
    with Path(order["plan"]).open("wb") as stream:
        stream.write(plan)
    seconds["build"] = time.monotonic() - began - seconds["import"] - seconds["parse"]
    members: dict[str, trt.BuilderFlag] = library.BuilderFlag.__members__
    return {
        "inputs": [_tensor(network.get_input(index)) for index in range(network.num_inputs)],
        "outputs": [_tensor(network.get_output(index)) for index in range(network.num_outputs)],
        "version": library.__version__,
        "flags": sorted({flag.name for flag in members.values() if config.get_flag(flag)}),
        "layers": network.num_layers,
        "seconds": {part: round(value, 3) for part, value in seconds.items()},
        "timing_cache": tensorrt_cache.publish(config, Path(order["cache"])) if order["cache"] else None,
    }


def _parse(library: Library, network: trt.INetworkDefinition, model: str, log: Log) -> None:
    parser = library.OnnxParser(network, log.logger)
    if not parser.parse_from_file(model):
        found = [parser.get_error(index) for index in range(parser.num_errors)]
        refused = [(error.node_operator(), error.node_name()) for error in found if error.node_operator()]
        raise _RefusedError([*log.errors, *(error.desc() for error in found)], refused)


def _configure(library: Library, config: trt.IBuilderConfig, order: Mapping[str, Any]) -> None:
    options, flags = order["options"], library.BuilderFlag
    wanted = {
        flags.TF32: options["tf32"],
        flags.VERSION_COMPATIBLE: options["version_compatible"],
        # The weights that are put back are the same: the kernels may be those that suit them.
        flags.STRIP_PLAN: options["strip_weights"],
        flags.REFIT_IDENTICAL: options["strip_weights"],
    }
    for flag, on in wanted.items():
        (config.set_flag if on else config.clear_flag)(flag)
    config.builder_optimization_level = options["optimization_level"]
    if options["workspace_mib"] is not None:
        config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, options["workspace_mib"] << 20)
    if options["hardware_compatibility"] != "none":
        levels = library.HardwareCompatibilityLevel.__members__
        config.hardware_compatibility_level = levels[options["hardware_compatibility"].upper()]
    if order["runtime"] == TENSORRT_RTX:
        # Every entry of the list that is announced has to be set: `bad optional access` otherwise.
        config.num_compute_capabilities = 1  # type: ignore[attr-defined]
        config.set_compute_capability(_aim(library, order["capability"]), 0)  # type: ignore[attr-defined]


def _aim(library: Library, capability: str) -> object:
    """TensorRT-RTX's name of a compute capability."""
    named = library.ComputeCapability.__members__
    name = f"SM{capability.replace('.', '')}"
    if name not in named:
        known = ", ".join(one for one in named if one.startswith("SM"))
        raise ModelError(
            f"compute capability {capability}: TensorRT-RTX {library.__version__} compiles for {known}",
            mend="take runtime tensorrt, which compiles on the GPU itself, or another GPU",
        )
    return named[name]


def _profile(
    library: Library, builder: trt.Builder, network: trt.INetworkDefinition, profile: Mapping[str, Any]
) -> trt.IOptimizationProfile:
    """Each input's first axis is the batch; the other dynamic ones are lengths in tokens."""
    made = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = _shape(tensor)
        if -1 in shape[1:] and profile["sequence"] is None:
            raise ModelError(f"input {tensor.name} {list(shape)} has an axis of tokens, and the profile says none")
        axes = [profile["batch"], *[profile["sequence"]] * (len(shape) - 1)]
        bounds = [
            library.Dims([size if size >= 0 else axis[bound] for size, axis in zip(shape, axes, strict=True)])
            for bound in range(3)
        ]
        made.set_shape(tensor.name, *bounds)
    return made


def _tensor(tensor: trt.ITensor) -> list[Json]:
    name = tensor.dtype.name
    if name not in _DTYPES:
        raise ModelError(f"tensor {tensor.name} is {name}, which no Triton model can take or give")
    return [tensor.name, _DTYPES[name], _shape(tensor)]


def _shape(tensor: trt.ITensor) -> list[int]:
    return [tensor.shape[axis] for axis in range(len(tensor.shape))]


def _answer(order: Mapping[str, Any], progress: Progress) -> dict[str, Json]:
    try:
        return compile_plan(order, progress)
    except _RefusedError as refused:
        return refused.answer
    except MemoryError:
        return {"said": ["std::bad_alloc"], "refused": []}
    except TritonsmithError as error:
        return {"error": {"class": type(error).__name__, "message": error.message, "mend": error.mend}}


def _tell(progress: Progress, done: threading.Event, write: Callable[[dict[str, Json]], None]) -> None:
    began, wait = time.monotonic(), FIRST_SECONDS
    while not done.wait(wait):
        write({"at": str(progress), "seconds": time.monotonic() - began})
        wait = NEXT_SECONDS


def main(text: str) -> None:
    """Runs an order; its answers go to standard output, and what anybody else prints to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def write(answer: dict[str, Json]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    progress, done = Progress(), threading.Event()
    teller = threading.Thread(target=_tell, args=(progress, done, write), daemon=True)
    teller.start()
    answer = _answer(json.loads(text), progress)
    done.set()
    teller.join()
    write(answer)


if __name__ == "__main__":
    main(sys.argv[1])
