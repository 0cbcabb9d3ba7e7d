"""What needs torch or a builder of engines, each in a process of its own: it may crash, and it gives the GPU back.

``python -m benchmarks.gpu.prepare STEP JSON`` prints one JSON object; a failure is the last line of what it wrote.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

OPSET = 20
WORKSPACE_BYTES = 8 << 30
TENSORRT_MODULES = {"tensorrt": ("tensorrt",), "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}


def probe() -> dict[str, Any]:
    """Which runtimes are there, with their versions; a text says why one is not."""
    found: dict[str, Any] = {}
    for name, step in (("torch", _torch), ("onnxruntime", _onnxruntime)):
        try:
            found[name] = step()
        except Exception as error:  # whatever an import does on a machine that we do not know
            found[name] = f"{type(error).__name__}: {error}"
    for name in TENSORRT_MODULES:
        try:
            found[name] = {"version": _tensorrt(name).__version__}
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    for name in ("numpy", "onnx", "onnxscript", "cuda-bindings"):
        try:
            found[name] = {"version": metadata.version(name)}
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _torch() -> dict[str, Any]:
    import torch

    facts: dict[str, Any] = {"version": torch.__version__, "gpu": torch.cuda.is_available()}
    if facts["gpu"]:
        facts["name"] = torch.cuda.get_device_name()
        facts["compute_capability"] = "{}.{}".format(*torch.cuda.get_device_capability())
    return facts


def _onnxruntime() -> dict[str, Any]:
    import onnxruntime

    return {"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}


def _tensorrt(name: str) -> Any:
    for module in TENSORRT_MODULES[name]:
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            reason = error
    raise reason


def weights(size: str, path: str) -> dict[str, Any]:
    """Writes the seeded weights of a model."""
    import torch

    from benchmarks.gpu import bert

    drawn = bert.random_weights(bert.SIZES[size])
    torch.save(drawn, path)
    return {"parameters": sum(tensor.numel() for tensor in drawn.values())}


def reference(size: str, weights_path: str, ids: str, path: str) -> dict[str, Any]:
    """Writes what the model answers in fp32, FP32 [samples, hidden].

    Args:
        size: a name of ``bert.SIZES``.
        weights_path: what :func:`weights` wrote.
        ids: a file of numpy's, INT64 [samples, tokens].
        path: the file to write.
    """
    import numpy as np
    import torch

    from benchmarks.gpu import bert

    torch.set_float32_matmul_precision("highest")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = bert.load(bert.SIZES[size], weights_path).to(device)
    tokens = torch.from_numpy(np.load(ids)).to(device)
    with torch.inference_mode():
        answers = model(tokens, torch.ones_like(tokens)).cpu().numpy()
    np.save(path, answers)
    return {"device": device, "samples": len(answers)}


def onnx(size: str, weights_path: str, precision: str, path: str) -> dict[str, Any]:
    """Exports the model, batch and sequence dynamic, its weights beside it."""
    import torch

    from benchmarks.gpu import bert

    model = bert.load(bert.SIZES[size], weights_path, fused=False)
    model = model.half() if precision == "fp16" else model
    example = tuple(torch.ones((2, 16), dtype=torch.int64) for _ in range(2))
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=bert.POSITIONS)}
    began = time.monotonic()
    torch.onnx.export(
        model,
        example,
        path,
        input_names=["input_ids", "attention_mask"],
        output_names=["EMBEDDING"],
        dynamic_shapes=(axes, axes),
        opset_version=OPSET,
        dynamo=True,
        external_data=True,
        verbose=False,
    )
    return {"seconds": round(time.monotonic() - began, 1), "opset": OPSET}


def engine(
    module: str, model: str, sequence: int, profiles: list[list[int]], path: str, *, capability: str = ""
) -> dict[str, Any]:
    """Builds a plan: strongly typed, one optimisation profile for each span of batches.

    TensorRT for RTX is asked twice where its plan does not load on this machine's GPU: for any GPU, then for this one.

    Args:
        module: tensorrt or tensorrt_rtx.
        model: an ONNX file.
        sequence: tokens of every request.
        profiles: least, optimal and largest batch of each.
        path: the file to write.
        capability: of another GPU than this machine's, as TensorRT for RTX names it (SM89): the plan is not loaded.

    Raises:
        RuntimeError: the library refuses the model or the GPU, with what it logged.
    """
    trt = _tensorrt(module)
    log = _logger(trt)
    refused: dict[str, str] = {}
    began = time.monotonic()
    for aim in [capability] if capability else ["", "CURRENT"] if module == "tensorrt_rtx" else [""]:
        log.errors.clear()
        plan = _build(trt, log, model, _Shapes(sequence, profiles), aim)
        if plan is not None and (capability or trt.Runtime(log).deserialize_cuda_engine(plan) is not None):
            Path(path).write_bytes(plan)
            seconds = round(time.monotonic() - began, 1)
            return {"seconds": seconds, "bytes": Path(path).stat().st_size, "aim": aim or "any", "refused": refused}
        what = "no engine was built" if plan is None else "the engine does not load"
        refused[aim or "any"] = f"{what}: {'; '.join(log.errors) or 'the library does not say why'}"
    raise RuntimeError("; ".join(f"for {aim}: {said}" for aim, said in refused.items()))


class _Shapes(NamedTuple):
    sequence: int
    batches: list[list[int]]


def _logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message.strip())

    return Logger()


def _build(trt: Any, log: Any, model: str, shapes: _Shapes, aim: str) -> bytes | None:
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(model):
        raise RuntimeError("; ".join([str(parser.get_error(index)) for index in range(parser.num_errors)]))
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    if aim:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, aim), 0)
    for spans in shapes.batches:
        profile = builder.create_optimization_profile()
        for index in range(network.num_inputs):
            profile.set_shape(network.get_input(index).name, *((rows, shapes.sequence) for rows in spans))
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    return None if plan is None else bytes(plan)


STEPS = {step.__name__: step for step in (probe, weights, reference, onnx, engine)}


def main() -> None:
    """Runs one step."""
    step, arguments = sys.argv[1], json.loads(sys.argv[2])
    try:
        done = STEPS[step](**arguments)
    except Exception as error:  # told to whoever asked, as one line
        sys.stderr.write(f"\n{type(error).__name__}: {' '.join(str(error).split())[:1500]}\n")
        sys.exit(1)
    sys.stdout.write("\n" + json.dumps(done) + "\n")


if __name__ == "__main__":
    main()
