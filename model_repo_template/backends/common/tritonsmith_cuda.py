"""The little of CUDA that running an engine takes, through whichever of ``cuda-python`` and torch is there.

Nothing but this file and ``tritonsmith_engine.py`` touches a GPU.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable


class Buffer:
    """Pinned memory of the host and as much of the GPU's."""

    def __init__(self, host: np.ndarray, address: int, keep: Any = None) -> None:
        self.host = host  # uint8, one axis
        self.address = address  # on the GPU
        self.keep = keep  # whatever owns the memory


class CudaPython:
    """Through ``cuda.bindings`` (cuda-python 12.8 or later), or the older ``cuda.cudart``."""

    def __init__(self, device: int) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError:
            from cuda import cudart as runtime
        self.runtime = runtime
        self._do(runtime.cudaSetDevice, device)
        kinds = runtime.cudaDeviceAttr
        major, minor = (
            self._do(runtime.cudaDeviceGetAttribute, kind, device)
            for kind in (kinds.cudaDevAttrComputeCapabilityMajor, kinds.cudaDevAttrComputeCapabilityMinor)
        )
        self.capability = f"{major}.{minor}"
        self.stream = int(self._do(runtime.cudaStreamCreate))

    def _do(self, function: Callable[..., Any], *arguments: Any) -> Any:
        status, *results = function(*arguments)
        if int(status) != 0:
            text = self.runtime.cudaGetErrorString(status)[1].decode()
            raise RuntimeError(f"{function.__name__}: {text}")
        return results[0] if results else None

    def buffer(self, size: int) -> Buffer:
        """Memory for so many bytes; it lives as long as the process."""
        pinned = int(self._do(self.runtime.cudaMallocHost, size))
        host = np.frombuffer((ctypes.c_uint8 * size).from_address(pinned), np.uint8)
        return Buffer(host, int(self._do(self.runtime.cudaMalloc, size)))

    def upload(self, buffer: Buffer, size: int) -> None:
        """Copies the first bytes to the GPU, in the stream."""
        kind = self.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._do(self.runtime.cudaMemcpyAsync, buffer.address, buffer.host.ctypes.data, size, kind, self.stream)

    def download(self, buffer: Buffer, size: int) -> None:
        """Copies the first bytes from the GPU, in the stream."""
        kind = self.runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._do(self.runtime.cudaMemcpyAsync, buffer.host.ctypes.data, buffer.address, size, kind, self.stream)

    def synchronize(self) -> None:
        """Waits for the stream."""
        self._do(self.runtime.cudaStreamSynchronize, self.stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Records what ``work`` puts into the stream; calling the result repeats it."""
        mode = self.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._do(self.runtime.cudaStreamBeginCapture, self.stream, mode)
        try:
            work()
        finally:
            graph = self._do(self.runtime.cudaStreamEndCapture, self.stream)
        executable = self._do(self.runtime.cudaGraphInstantiate, graph, 0)
        return lambda: self._do(self.runtime.cudaGraphLaunch, executable, self.stream)


class TorchCuda:
    """Through torch, where it has CUDA."""

    def __init__(self, device: int) -> None:
        import torch

        torch.cuda.set_device(device)
        self.torch = torch
        self.capability = "{}.{}".format(*torch.cuda.get_device_capability(device))
        self._stream = torch.cuda.Stream()
        self.stream = int(self._stream.cuda_stream)

    def buffer(self, size: int) -> Buffer:
        """Memory for so many bytes; it lives as long as the buffer."""
        pinned = self.torch.empty(size, dtype=self.torch.uint8, pin_memory=True)
        device = self.torch.empty(size, dtype=self.torch.uint8, device="cuda")
        return Buffer(pinned.numpy(), device.data_ptr(), (pinned, device))

    def upload(self, buffer: Buffer, size: int) -> None:
        """Copies the first bytes to the GPU, in the stream."""
        pinned, device = buffer.keep
        with self.torch.cuda.stream(self._stream):
            device[:size].copy_(pinned[:size], non_blocking=True)

    def download(self, buffer: Buffer, size: int) -> None:
        """Copies the first bytes from the GPU, in the stream."""
        pinned, device = buffer.keep
        with self.torch.cuda.stream(self._stream):
            pinned[:size].copy_(device[:size], non_blocking=True)

    def synchronize(self) -> None:
        """Waits for the stream."""
        self._stream.synchronize()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Records what ``work`` puts into the stream; calling the result repeats it."""
        graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            work()

        def launch() -> None:
            with self.torch.cuda.stream(self._stream):
                graph.replay()

        return launch


def open_cuda(device: int) -> CudaPython | TorchCuda:
    """The GPU, through what is installed; cuda-python first: torch takes seconds to import.

    Raises:
        RuntimeError: neither is installed for the server's stubs, or there is no such GPU.
    """
    reasons = []
    for adapter in (CudaPython, TorchCuda):
        try:
            return adapter(device)
        except (ImportError, RuntimeError, AssertionError) as error:  # AssertionError: torch without CUDA
            reasons.append(f"{adapter.__name__}: {error}")
    raise RuntimeError(f"GPU {device} cannot be used through cuda-python nor through torch: {'; '.join(reasons)}")
