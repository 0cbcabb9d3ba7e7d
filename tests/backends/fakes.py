"""A TensorRT and a CUDA that compute with numpy: there is no GPU where the suite runs, and no engine loads without one.

They behave as their documentation says where our code depends on it: shapes have to be set before addresses are used,
device memory is not the host's, a capture records and does not run, and profiles have limits.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

KINDS = {"ids": ("INT32", np.int32), "out": ("FLOAT", np.float32)}


class FakeCuda:
    capability, stream = "8.9", 7

    def __init__(self) -> None:
        self.memory: dict[int, np.ndarray] = {}
        self.recording: list[Any] | None = None
        self.synchronized = 0

    def buffer(self, size: int) -> Any:
        address = 0x1000 * (len(self.memory) + 1)
        self.memory[address] = np.zeros(size, np.uint8)
        return SimpleNamespace(host=np.zeros(size, np.uint8), address=address)

    def do(self, work: Any) -> None:
        if self.recording is None:
            work()
        else:
            self.recording.append(work)

    def upload(self, buffer: Any, size: int) -> None:
        self.do(lambda: np.copyto(self.memory[buffer.address][:size], buffer.host[:size]))

    def download(self, buffer: Any, size: int) -> None:
        self.do(lambda: np.copyto(buffer.host[:size], self.memory[buffer.address][:size]))

    def synchronize(self) -> None:
        self.synchronized += 1

    def capture(self, work: Any) -> Any:
        self.recording = steps = []
        work()
        self.recording = None
        return lambda: [step() for step in steps]


class FakeContext:
    """``out = ids * 2``."""

    def __init__(self, cuda: FakeCuda, engine: FakeEngine) -> None:
        self.cuda, self.engine = cuda, engine
        self.addresses: dict[str, int] = {}
        self.profile: int | None = None
        self.runs = 0

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        assert stream == self.cuda.stream
        self.profile = index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self.profile is not None
        low, _, high = self.engine.get_tensor_profile_shape(name, self.profile)
        self.shape = tuple(shape)
        return all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert name == "out"
        return self.shape

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == self.cuda.stream
        self.runs += 1
        count, memory = int(np.prod(self.shape)), self.cuda.memory

        def compute() -> None:
            ids = memory[self.addresses["ids"]].view(np.int32)[:count]
            memory[self.addresses["out"]].view(np.float32)[:count] = ids * 2

        self.cuda.do(compute)
        return True


class FakeEngine:
    num_io_tensors, num_optimization_profiles, refittable = 2, 2, True
    spans = (((1, 4), (1, 4), (2, 4)), ((1, 4), (4, 8), (8, 8)))

    def __init__(self, trt: Any, cuda: FakeCuda) -> None:
        self.trt, self.cuda, self.stripped = trt, cuda, 0
        self.contexts: list[FakeContext] = []

    def get_tensor_name(self, index: int) -> str:
        return list(KINDS)[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=KINDS[name][0])

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if name == "ids" else "OUTPUT"

    def get_tensor_shape(self, _: str) -> tuple[int, int]:
        return (-1, -1)

    def is_shape_inference_io(self, _: str) -> bool:
        return False

    def get_tensor_profile_shape(self, _: str, index: int) -> Any:
        return self.spans[index]

    def get_engine_stat(self, _: str) -> int:
        return self.stripped

    def create_execution_context(self, strategy: str) -> FakeContext:
        assert strategy == "STATIC"
        self.contexts.append(FakeContext(self.cuda, self))
        return self.contexts[-1]


def fake_tensorrt(cuda: FakeCuda) -> Any:
    """A module with what our code uses of TensorRT's; ``engine`` is what it loads, None refuses."""

    class ILogger:
        Severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)

    trt: Any = SimpleNamespace(
        __version__="10.13.2",
        ILogger=ILogger,
        TensorIOMode=SimpleNamespace(INPUT="INPUT"),
        EngineStat=SimpleNamespace(STRIPPED_WEIGHTS_SIZE="stripped"),
        ExecutionContextAllocationStrategy=SimpleNamespace(STATIC="STATIC"),
        refitted=[],
    )
    trt.engine = FakeEngine(trt, cuda)

    def deserialize(log: Any, _: bytes) -> Any:
        if trt.engine is None:
            log.log(1, "expecting library version 10.13.2.6 got 10.3.0.26")
        return trt.engine

    trt.Runtime = lambda log: SimpleNamespace(deserialize_cuda_engine=lambda plan: deserialize(log, plan))
    trt.Refitter = lambda *_: SimpleNamespace(refit_cuda_engine=lambda: True)
    trt.OnnxParserRefitter = lambda *_: SimpleNamespace(
        refit_from_file=lambda path: trt.refitted.append(path) or path.endswith("model.onnx")
    )
    return trt
