"""TensorRT 10 and 11 (``tensorrt``) and TensorRT for RTX (``tensorrt_rtx_bindings``): one Python API, three libraries.

None is a dependency of ours: each is imported when an engine is made, and not before. TensorRT needs a GPU of the kind
that will serve; TensorRT-RTX compiles ahead of time on any CPU, for the GPUs that are named to it.
"""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from builder.errors import BlockedError
from builder.tools import hardware, installed
from builder.tools.gpus import TENSORRT, TENSORRT_RTX

if TYPE_CHECKING:
    import tensorrt as trt

_MODULES: Final = {TENSORRT: "tensorrt", TENSORRT_RTX: "tensorrt_rtx_bindings"}

# The bindings are what is imported; the package `tensorrt` alone may be the stubs' folder, or NVIDIA's installer.
_DISTRIBUTIONS: Final = {
    TENSORRT: ("tensorrt-cu13-bindings", "tensorrt-cu12-bindings", "tensorrt-bindings", "tensorrt"),
    TENSORRT_RTX: ("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu12-bindings"),
}


class Library(Protocol):
    """What we use of any of the three modules, as ``tensorrt-stubs`` types it."""

    __version__: str
    Builder: type[trt.Builder]
    BuilderFlag: type[trt.BuilderFlag]
    ComputeCapability: Any  # of TensorRT-RTX alone
    Dims: type[trt.Dims]
    HardwareCompatibilityLevel: type[trt.HardwareCompatibilityLevel]
    ILogger: type[trt.ILogger]
    IProgressMonitor: type[trt.IProgressMonitor]
    MemoryPoolType: type[trt.MemoryPoolType]
    NetworkDefinitionCreationFlag: type[trt.NetworkDefinitionCreationFlag]
    OnnxParser: type[trt.OnnxParser]
    OnnxParserRefitter: type[trt.OnnxParserRefitter]
    Refitter: type[trt.Refitter]
    Runtime: type[trt.Runtime]
    SerializationFlag: type[trt.SerializationFlag]


def load(runtime: str) -> Library:
    """The module of a runtime, imported now.

    Raises:
        BlockedError: it is not installed, or its libraries cannot be loaded.
    """
    try:
        module = importlib.import_module(_MODULES[runtime])
    except (ImportError, OSError) as error:
        raise BlockedError(f"{runtime} cannot be loaded: {error}", mend=_mend(runtime)) from error
    if not hasattr(module, "Builder"):  # tensorrt-stubs leaves a folder `tensorrt` that can be imported, and is empty
        raise BlockedError(f"{runtime} is not installed", mend=_mend(runtime))
    return cast("Library", module)


def version(runtime: str) -> str | None:
    """The version of a runtime's library that is installed, by looking; None where there is none."""
    return next((found for name in _DISTRIBUTIONS[runtime] if (found := installed.version(name))), None)


def cuda(runtime: str) -> str | None:
    """The major version of CUDA that the installed library is built for; None where its package does not say."""
    for name in _DISTRIBUTIONS[runtime]:
        if installed.version(name):
            match = re.search(r"-cu(\d+)", name)
            return match[1] if match else None
    return None


def blocked(runtime: str, wanted: str, capability: str, *, strip_weights: bool = False) -> BlockedError | None:
    """What is missing here to compile for a GPU; None: nothing. It imports no library.

    Args:
        runtime: tensorrt | tensorrt-rtx.
        wanted: version of the library, ``10.13.2`` or ``1.7.1.116``: as many numbers as must be the same.
        capability: the GPU's compute capability, ``7.5``.
        strip_weights: a plan without weights: TensorRT-RTX loads kernels while it makes one, which takes a driver.
    """
    found = version(runtime)
    if found is None:
        return BlockedError(f"{runtime} {wanted} is needed, and is not installed", mend=_mend(runtime))
    if not is_version(found, wanted):
        return BlockedError(
            f"{runtime} {wanted} is needed, and {found} is installed: a plan runs in the version that made it alone",
            mend=f"install {wanted}, or take a Triton release that has {found}",
        )
    if runtime == TENSORRT:
        return _without_gpu(capability)
    if strip_weights and not hardware.gpus():
        return BlockedError(
            f"engine.strip_weights: {runtime} needs a GPU to make a plan without weights; this machine has none",
            mend="leave engine.strip_weights out, or build on a machine with a GPU",
        )
    return None


def is_version(found: str, wanted: str) -> bool:
    """Whether a version is the wanted one, as far as that is stated: ``10.13.2.6`` is ``10.13.2``."""
    count = min(len(wanted.split(".")), len(found.split(".")))
    return found.split(".")[:count] == wanted.split(".")[:count]


def _without_gpu(capability: str) -> BlockedError | None:
    """TensorRT times its kernels: it compiles only for the GPU that it runs on, the first that CUDA sees."""
    here = [gpu.compute_capability for gpu in hardware.gpus()]
    if set(here) == {capability}:
        return None
    if capability in here:
        return BlockedError(
            f"TensorRT needs a GPU of compute capability {capability}; here are several kinds: {', '.join(here)}",
            mend="build in a container that sees GPUs of this kind alone",
        )
    return BlockedError(
        f"TensorRT needs a GPU of compute capability {capability}; here: {', '.join(here) or 'none'}",
        mend="build on a machine that has one: it goes on from the same store",
    )


def _mend(runtime: str) -> str:
    if runtime == TENSORRT_RTX:
        return "pip install 'tritonsmith[tensorrt-rtx]'"
    return "pip install the tensorrt package of the version that your Triton release has, on the GPU machine"
