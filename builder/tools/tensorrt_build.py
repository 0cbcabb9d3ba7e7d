"""From an ONNX file to a plan for one compute capability, with any of the libraries of :mod:`builder.tools.tensorrt`.

Each plan is made by a process of its own (:mod:`builder.tools.tensorrt_child`). TensorRT-RTX 1.7 makes another plan
than it should after one has failed in the same process; what the libraries print past their logger stays off the
terminal; an interruption ends them at once, and a crash of theirs is none of ours.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import errors
from builder.artifacts import Tensor
from builder.errors import MachineError, TritonsmithError
from builder.settings import environment
from builder.tools import process
from builder.tools.tensorrt_errors import Failure, explain

if TYPE_CHECKING:
    from builder.artifacts import Json, Profile

log = logging.getLogger(__name__)

_ENTRY: Final = "builder.tools.tensorrt_child"
_TIMEOUT_SECONDS: Final = 6 * 3600.0  # TensorRT may time kernels for an hour; this only ends what hangs


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What the builder is told, in TensorRT's own words.

    Args:
        workspace_mib: memory that a layer may use while it runs; None: all of the GPU's.
        optimization_level: 0 to 5: how long it looks for faster kernels.
        version_compatible: later releases of the same major version may load the plan (TensorRT alone).
        hardware_compatibility: none | ampere_plus | same_compute_capability (TensorRT alone).
        strip_weights: the plan is written without weights: :func:`builder.tools.tensorrt_plan.refit` puts them back.
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
        cache: file of the timing cache; None: none. In TensorRT-RTX it has no effect on the plan, and will go (its
            release notes, 1.0).
    """

    model: Path
    runtime: str
    capability: str
    profiles: tuple[Profile, ...]
    options: EngineOptions
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """What came of it, besides the plan.

    Args:
        inputs: as the engine states them.
        outputs: likewise.
        version: that the library says of itself.
        flags: TensorRT's names of the builder flags that were set.
        layers: of the network, before they were fused.
        seconds: by part: import, parse, build.
        timing_cache: sha256 (``digest``) and size in bytes; None: there was none.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    version: str
    flags: tuple[str, ...]
    layers: int
    seconds: dict[str, float]
    timing_cache: dict[str, Json] | None


def build(order: Order, plan: Path) -> Built:
    """Compiles a model, and writes the plan.

    Raises:
        BlockedError: the library, or a GPU that it needs, is not here.
        ModelError: TensorRT cannot compile the model, or not as the recipe asks.
        MachineError: there was not enough memory, or the library crashed.
    """
    what = f"engine for compute capability {order.capability}"
    answers: list[dict[str, Any]] = []

    def hear(line: str) -> None:
        answer = json.loads(line)
        if "at" in answer:
            log.info("%s: %s (%.0f s)", what, answer["at"], answer["seconds"])
        else:
            answers.append(answer)

    data = {**asdict(order), "model": str(order.model), "cache": order.cache and str(order.cache), "plan": str(plan)}
    env = {**environment(), "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)}
    command = [sys.executable, "-P", "-m", _ENTRY, json.dumps(data)]
    ended = process.run(command, what=what, timeout_seconds=_TIMEOUT_SECONDS, env=env, check=False, on_line=hear)
    if not answers:
        said = tuple(ended.stderr.splitlines()[-20:])
        died = f"{what}: the library {process.describe_status(ended.returncode)}"
        raise explain(_failure(order, said), MachineError("\n".join((died, *said[-3:])), mend=_MEND_DEATH))
    return _built(order, answers[-1], ended.stderr)


_MEND_DEATH: Final = "build with fewer --jobs: it may have needed more memory than there was"


def _built(order: Order, answer: dict[str, Any], printed: str) -> Built:
    """The outcome that the process told, or its error."""
    if "error" in answer:
        kind: type[TritonsmithError] = getattr(errors, answer["error"]["class"])
        raise kind(answer["error"]["message"], mend=answer["error"]["mend"])
    if "said" in answer:
        said = (*printed.splitlines(), *answer["said"])
        raise explain(_failure(order, said, tuple((operator, node) for operator, node in answer["refused"])))
    sides = {side: tuple(Tensor(name, dtype, tuple(shape)) for name, dtype, shape in answer[side])
             for side in ("inputs", "outputs")}  # fmt: skip
    return Built(**{**answer, **sides, "flags": tuple(answer["flags"])})


def _failure(order: Order, said: tuple[str, ...], refused: tuple[tuple[str, str], ...] = ()) -> Failure:
    limit = order.options.workspace_mib
    return Failure(order.model, order.runtime, order.capability, order.profiles, limit, said, refused)
