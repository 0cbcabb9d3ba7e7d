"""TensorRT itself: a plan is loaded once, and runs batches whose inputs lie in pinned memory. All of it needs a GPU.

What can be decided without one is in ``tritonsmith_plans.py`` and ``tritonsmith_profiles.py``; the side that faces
Triton is in ``tritonsmith_engine_model.py``.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import triton_python_backend_utils as pb_utils
import tritonsmith_plans as plans
from tritonsmith_cuda import Buffer, open_cuda
from tritonsmith_plans import Runtime
from tritonsmith_profiles import Profile, Shape, Shapes, choose, of_instance

if TYPE_CHECKING:
    from pathlib import Path

# TensorRT's names of element types → Triton's, and numpy's. BF16 and smaller floats have no numpy type.
TYPES = {
    "FLOAT": ("TYPE_FP32", np.float32),
    "HALF": ("TYPE_FP16", np.float16),
    "INT64": ("TYPE_INT64", np.int64),
    "INT32": ("TYPE_INT32", np.int32),
    "INT8": ("TYPE_INT8", np.int8),
    "UINT8": ("TYPE_UINT8", np.uint8),
    "BOOL": ("TYPE_BOOL", np.bool_),
}
MOST_GRAPHS = 128  # an instance captures no more: each keeps some MB of the GPU


@dataclass(frozen=True)
class Tensor:
    """An input or output of an engine; -1 is a dynamic axis."""

    name: str
    data_type: str  # Triton's name
    numpy: Any  # the same as a numpy type
    dims: Shape


class Runner:
    """A loaded plan with one execution context for each profile that the instance uses.

    ``host`` holds each tensor's pinned memory. A run reads the inputs there and leaves the outputs there.
    """

    def __init__(self, runtime: Runtime, folder: Path, config: dict[str, Any], instance: str, device: int) -> None:
        """Loads the plan for this GPU.

        Raises:
            ValueError: the config, or the plan's file, is not right.
            RuntimeError: TensorRT or the GPU refuses it.
        """
        self.trt = load_module(runtime)
        self.cuda = open_cuda(device)
        self.path = plans.plan_path(folder, config, self.cuda.capability)
        plans.check_head(self.path, runtime)
        self.log = new_logger(self.trt)
        self.engine = self._deserialize(runtime)
        self._refit()
        self.inputs, self.outputs = self._tensors()
        chosen = of_instance(config, instance, self.engine.num_optimization_profiles)
        self.profiles = [self._profile(index) for index in chosen]
        cuda = config.get("optimization", {}).get("cuda", {})
        self.use_graphs = bool(cuda.get("graphs"))
        self.graphs: dict[tuple[int, tuple[Shape, ...]], tuple[Any, Shapes]] = {}
        self._make_contexts(config)
        self._capture_stated(cuda.get("graph_spec", []))

    def run(self, profile: Profile, shapes: Shapes) -> Shapes:
        """Runs what lies in the inputs' pinned memory, with one enqueue.

        Args:
            profile: one of ``profiles`` that these shapes fit.
            shapes: of the inputs.

        Returns:
            the shapes of the outputs, which lie in their pinned memory.
        """
        key = (profile.index, tuple(shapes.values()))
        if key in self.graphs:
            launch, results = self.graphs[key]
            launch()
            self.cuda.synchronize()
            return results
        context = self.contexts[profile.index]
        results = self._set_shapes(context, shapes)
        self._enqueue(context, shapes, results)
        self.cuda.synchronize()
        # TensorRT asks for one run at these shapes before they are captured.
        if self.use_graphs and len(self.graphs) < MOST_GRAPHS:
            self._capture(key, shapes, results)
        return results

    def _deserialize(self, runtime: Runtime) -> Any:
        self.library = self.trt.Runtime(self.log)  # lives as long as its engine
        engine = self.library.deserialize_cuda_engine(self.path.read_bytes())
        if engine is None:
            version = self.trt.__version__
            raise RuntimeError(plans.refused(self.path, runtime, version, self.cuda.capability, self.log.errors))
        return engine

    def _refit(self) -> None:
        """Puts the weights back into a plan that was stripped of them."""
        stats = getattr(self.trt, "EngineStat", None)
        if not self.engine.refittable or stats is None:
            return
        if self.engine.get_engine_stat(stats.STRIPPED_WEIGHTS_SIZE) <= 0:
            return
        weights = plans.weights_beside(self.path)
        if weights is None:
            raise ValueError(f"'{self.path}' has no weights in it, and no ONNX file with them lies beside it")
        refitter = self.trt.Refitter(self.engine, self.log)
        parser = self.trt.OnnxParserRefitter(refitter, self.log)
        if not parser.refit_from_file(str(weights)) or not refitter.refit_cuda_engine():
            raise RuntimeError(f"'{self.path}' does not take the weights of '{weights}': {'; '.join(self.log.errors)}")

    def _tensors(self) -> tuple[list[Tensor], list[Tensor]]:
        engine, found = self.engine, {True: [], False: []}
        for name in (engine.get_tensor_name(index) for index in range(engine.num_io_tensors)):
            kind = engine.get_tensor_dtype(name).name
            if kind not in TYPES or engine.is_shape_inference_io(name):
                what = "a tensor of shapes" if kind in TYPES else f"of type {kind}, which numpy does not have"
                raise ValueError(f"'{name}' of '{self.path}' is {what}: this backend cannot serve it")
            tensor = Tensor(name, *TYPES[kind], tuple(engine.get_tensor_shape(name)))
            found[engine.get_tensor_mode(name) == self.trt.TensorIOMode.INPUT].append(tensor)
        return found[True], found[False]

    def _profile(self, index: int) -> Profile:
        names = [tensor.name for tensor in self.inputs]
        shapes = {name: [tuple(dims) for dims in self.engine.get_tensor_profile_shape(name, index)] for name in names}
        return Profile(index, *({name: shapes[name][which] for name in names} for which in range(3)))

    def _make_contexts(self, config: dict[str, Any]) -> None:
        """One context for each profile; memory for each tensor at its largest, shared by all of them."""
        stated = config.get("parameters", {}).get("execution_context_allocation_strategy", {}).get("string_value")
        strategy = getattr(self.trt.ExecutionContextAllocationStrategy, stated or "STATIC")
        self.contexts: dict[int, Any] = {}
        sizes: dict[str, int] = {}
        for profile in self.profiles:
            context = self.engine.create_execution_context(strategy)
            if context is None or not context.set_optimization_profile_async(profile.index, self.cuda.stream):
                said = "; ".join(self.log.errors) or "perhaps the GPU has not enough memory"
                raise RuntimeError(f"no execution context for profile {profile.index} of '{self.path}': {said}")
            self.cuda.synchronize()
            self.contexts[profile.index] = context
            for name, shape in {**profile.largest, **self._set_shapes(context, profile.largest)}.items():
                sizes[name] = max(sizes.get(name, 1), self._bytes(name, shape))
        self.buffers: dict[str, Buffer] = {name: self.cuda.buffer(size) for name, size in sizes.items()}
        self.host = {name: buffer.host for name, buffer in self.buffers.items()}
        for context in self.contexts.values():
            for name, buffer in self.buffers.items():
                context.set_tensor_address(name, buffer.address)

    def _bytes(self, name: str, shape: Shape) -> int:
        (tensor,) = (tensor for tensor in [*self.inputs, *self.outputs] if tensor.name == name)
        return math.prod(shape) * np.dtype(tensor.numpy).itemsize

    def _set_shapes(self, context: Any, shapes: Shapes) -> Shapes:
        """Tells a context the inputs' shapes; returns the outputs'."""
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                said = "; ".join(self.log.errors)
                raise RuntimeError(f"TensorRT refuses the shape {list(shape)} of '{name}': {said}")
        results = {tensor.name: tuple(context.get_tensor_shape(tensor.name)) for tensor in self.outputs}
        for name, shape in results.items():
            if -1 in shape:
                raise RuntimeError(f"the shape {list(shape)} of '{name}' depends on the data: it is needed before")
        return results

    def _enqueue(self, context: Any, shapes: Shapes, results: Shapes) -> None:
        for name, shape in shapes.items():
            self.cuda.upload(self.buffers[name], self._bytes(name, shape))
        if not context.execute_async_v3(self.cuda.stream):
            raise RuntimeError("; ".join(self.log.errors) or "TensorRT did not run, and does not say why")
        for name, shape in results.items():
            self.cuda.download(self.buffers[name], self._bytes(name, shape))

    def _capture(self, key: tuple[int, tuple[Shape, ...]], shapes: Shapes, results: Shapes) -> None:
        """Keeps a CUDA graph of a run, where that can be: without it the batch runs as before."""
        context = self.contexts[key[0]]
        capturable = getattr(context, "is_stream_capturable", None)  # TensorRT for RTX compiles kernels while it runs
        if capturable is not None and not capturable(self.cuda.stream):
            return
        try:
            launch = self.cuda.capture(lambda: self._enqueue(context, shapes, results))
        except RuntimeError as error:
            self.use_graphs = False
            pb_utils.Logger.log_warn(f"'{self.path}' goes on without CUDA graphs: {error}")
        else:
            self.graphs[key] = (launch, results)

    def _capture_stated(self, specs: list[dict[str, Any]]) -> None:
        """Captures the shapes that the config names, and then no others."""
        if not self.use_graphs or not specs:
            return
        for spec in specs:
            rows = [int(spec["batch_size"])] if int(spec.get("batch_size", 0)) else []
            shapes = {
                tensor.name: (*rows, *(int(size) for size in spec["input"][tensor.name]["dim"]))
                for tensor in self.inputs
            }
            for name, shape in shapes.items():
                self.host[name][: self._bytes(name, shape)] = 0
            self.run(choose(self.profiles, shapes), shapes)
        self.use_graphs = False


def load_module(runtime: Runtime) -> Any:
    """The library's Python module.

    Raises:
        RuntimeError: it is not installed for the server's stubs.
    """
    for name in runtime.modules:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            reason = error
    raise RuntimeError(f"{runtime.title} is not installed for the server's stubs: {reason}")


def new_logger(trt: Any) -> Any:
    """A logger that keeps the last errors of the library."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors = [*self.errors[-4:], message.strip()]

    return Logger()
