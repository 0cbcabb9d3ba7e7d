"""What a failure of TensorRT means, from what it said: which node of which module, which option, and what to do.

Each pattern was seen with TensorRT-RTX 1.7.1; ``tests/engine/test_stage.py`` brings them about. What is not known is
told as TensorRT said it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.errors import BlockedError, MachineError, ModelError, TritonsmithError
from builder.tools import onnx_place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from builder.artifacts import Profile

_MOST_NODES: Final = 3
_MOST_CHARACTERS: Final = 500


@dataclass(frozen=True, slots=True)
class Failure:
    """What was asked, and what TensorRT said.

    Args:
        model: the ONNX file.
        runtime: tensorrt | tensorrt-rtx.
        capability: compute capability.
        profiles: optimisation profiles.
        workspace_mib: limit; None: none.
        errors: messages of severity error, and what the library printed, in their order.
        refused: operator and name of each node that the parser refused.
    """

    model: Path
    runtime: str
    capability: str
    profiles: tuple[Profile, ...]
    workspace_mib: int | None
    errors: tuple[str, ...]
    refused: tuple[tuple[str, str], ...] = ()


def explain(failure: Failure, otherwise: TritonsmithError | None = None) -> TritonsmithError:
    """The error that says what is wrong, where, and what to do about it.

    Args:
        failure: what was asked, and what TensorRT said.
        otherwise: the error for what is not known; default: one with TensorRT's words.
    """
    if failure.refused:
        return _unsupported(failure)
    said = "\n".join(failure.errors)
    for pattern, make in _KNOWN.items():
        if match := re.search(pattern, said):
            return make(failure, match)
    return otherwise or _unknown(failure)


def _unsupported(failure: Failure) -> TritonsmithError:
    nodes = failure.refused
    told = [f"{operator} ({_place(failure, name)})" for operator, name in nodes[:_MOST_NODES]]
    more = f", and {len(nodes) - _MOST_NODES} more" if len(nodes) > _MOST_NODES else ""
    return ModelError(
        f"{failure.runtime} does not support {', '.join(told)}{more}",
        mend="take runtime onnxruntime for this model, or a model without these operators",
    )


def _duplicate(failure: Failure, match: re.Match[str]) -> TritonsmithError:
    return ModelError(
        f"{failure.runtime}: several values of the graph are called {match['name'].strip()}: names must be unique "
        "(onnxruntime takes such a file, and goes by the last one)",
        mend="build again; if it stays, report the model: whoever changed its graph did not rename what it added",
    )


def _no_fp32(failure: Failure, match: re.Match[str]) -> TritonsmithError:
    return ModelError(
        f"{failure.runtime} multiplies no fp32 matrices on compute capability {failure.capability}: "
        f"{_place(failure, match['node'])}",
        mend="take precision fp16 for this target, or a GPU of compute capability 8.0 or more",
    )


def _no_workspace(failure: Failure, _: re.Match[str]) -> TritonsmithError:
    limit = f"{failure.workspace_mib} MiB" if failure.workspace_mib is not None else "all of the GPU's memory"
    return ModelError(
        f"engine.workspace_mib: {limit} is too little for an operation of this model at the largest shape of a profile",
        mend="raise engine.workspace_mib or leave it out, or lower the largest batch or length in shapes",
    )


def _shape(failure: Failure, match: re.Match[str]) -> TritonsmithError:
    profile = failure.profiles[int(match["profile"])]
    sizes = dict(zip(("kMIN", "kOPT", "kMAX"), range(3), strict=True))
    bound = sizes[match["bound"]]
    length = f", {profile.sequence[bound]} tokens" if profile.sequence else ""
    return ModelError(
        f"profile {match['profile']}: the model cannot run at its batch of {profile.batch[bound]}{length}: "
        f"{_place(failure, match['node'])}: {match['why'].strip().rstrip('.')}",
        mend="narrow shapes, or shapes.profiles, to what the model can do (its number of positions, say)",
    )


def _no_memory(failure: Failure, match: re.Match[str]) -> TritonsmithError:
    return MachineError(
        f"not enough memory to compile for compute capability {failure.capability}: {_short(match[0])}",
        mend="build with fewer --jobs, lower engine.workspace_mib, or take a machine with more memory",
    )


def _no_gpu(failure: Failure, match: re.Match[str]) -> TritonsmithError:
    return BlockedError(
        f"{failure.runtime} needs a GPU with its driver for what is asked: {_short(match[0])}",
        mend="build on a machine with a GPU; without engine.strip_weights, tensorrt-rtx needs none",
    )


def _no_lean(failure: Failure, _: re.Match[str]) -> TritonsmithError:
    return BlockedError(
        f"engine.version_compatible: {failure.runtime} needs its lean runtime, libnvinfer_lean, which is not installed",
        mend="install tensorrt-lean of the same version, or leave engine.version_compatible out",
    )


def _unknown(failure: Failure) -> TritonsmithError:
    words = failure.errors[-2:] or ("it gave no reason",)
    return ModelError(
        f"{failure.runtime} cannot compile the model for compute capability {failure.capability}: "
        f"{_short('; '.join(words))}",
        mend="take runtime onnxruntime for this model, or report it with the recipe",
    )


_KNOWN: Final[dict[str, Callable[[Failure, re.Match[str]], TritonsmithError]]] = {
    r"(?:Output name is not unique|duplicate tensor name): (?P<name>.+)": _duplicate,
    r"operation '(?P<node>[^']*)'[^:]*: FP32 GEMM is not supported": _no_fp32,
    r"no tactics to implement the operation within workspace limit": _no_workspace,
    r"(?P<bound>k\w+) values for profile (?P<profile>\d+) violate shape constraints: (?P<node>[^:]*): "
    r"(?P<why>.*?)(?= In operator|$)": _shape,
    r"libnvinfer_lean": _no_lean,
    r"std::bad_alloc|OutOfMemory|out of memory|could not be allocated": _no_memory,
    r"\(?cudaError \d+: [^)\n]*|CHECK\(status == CUDA_SUCCESS\)|CUDA initialization failure": _no_gpu,
}
"""What TensorRT says → what is made of it; the first that matches."""


def _place(failure: Failure, node: str) -> str:
    """A node in the words of the model: ``node_MatMul_91, near encoder.layer.0.attention.self``."""
    module = onnx_place.module_of(failure.model, node)
    return f"{node or 'a node without a name'}{f', at {module}' if module else ''}"


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _MOST_CHARACTERS else f"{words[:_MOST_CHARACTERS]} …"
