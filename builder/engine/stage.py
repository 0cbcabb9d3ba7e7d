"""The engine stage: an ONNX model → a plan for one compute capability."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from builder.artifacts import Engine
from builder.core.digest import describe_file
from builder.errors import InternalError, ModelError
from builder.settings import settings
from builder.tools import gpus, hardware, tensorrt, tensorrt_cache, tensorrt_plan
from builder.tools.files import materialise
from builder.tools.tensorrt_build import EngineOptions, Order, build

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import Json, OnnxModel, Profile

PLAN: Final = "model.plan"

_LIBRARY_BYTES: Final = 400 << 20
_COPIES: Final = 4
"""Measured with TensorRT-RTX 1.7.1 in a process that does nothing else: 244 MB for a tiny model, 420 MB for MiniLM in
fp16 (45 MB of weights; five profiles: 491 MB), 572, 1253 and 1542 MB for 105, 315 and 419 MB of weights."""


@dataclass(frozen=True)
class Compile:
    """Compiles a model for the GPUs of one compute capability.

    One node for each capability: they run side by side, a GPU that is added costs one plan, and TensorRT, which
    compiles on the GPU itself, makes each where that GPU is; :func:`builder.engine.join` puts them together.

    Args:
        runtime: tensorrt | tensorrt-rtx.
        library: the version that compiles, ``10.13.3.9``: declared, so that every machine has the same key.
        capability: ``7.5``.
        profiles: of :func:`builder.engine.plan_profiles`.
        options: for the builder.
    """

    runtime: str
    library: str
    capability: str
    profiles: tuple[Profile, ...]
    options: EngineOptions = field(default_factory=EngineOptions)
    name: ClassVar[str] = "engine"
    version: ClassVar[int] = 1
    apart: ClassVar[bool] = False  # the library has a process of its own anyhow

    def fingerprint(self, inputs: OnnxModel) -> Mapping[str, Json]:
        """Declared facts alone: a host without the GPU plans the same key as the one that has it."""
        return {
            "model": {name: file.sha256 for name, file in inputs.files.items()},
            "runtime": self.runtime,
            "library": self.library,
            "capability": self.capability,
            "profiles": self.profiles,
            "options": asdict(self.options),
        }

    def requires(self, inputs: OnnxModel) -> None:  # noqa: ARG002 - a stage's signature
        """Raises what is wrong with the order, then what this machine lacks: the first is so on every machine."""
        _refuse(self)
        strip = self.options.strip_weights
        if missing := tensorrt.blocked(self.runtime, self.library, self.capability, strip_weights=strip):
            raise missing

    def memory(self, inputs: OnnxModel) -> int:
        """The library; the weights as they are parsed, packed and serialised."""
        return _LIBRARY_BYTES + _COPIES * sum(file.size for file in inputs.files.values())

    def run(self, inputs: OnnxModel, out: Path) -> Engine:
        began = time.monotonic()
        gpu = hardware.gpus()[0] if self.runtime == gpus.TENSORRT else None
        cache = tensorrt_cache.path_of(settings().cache / "timing", self.library, gpu) if gpu else None
        with tempfile.TemporaryDirectory(dir=out, prefix=".model-") as temporary:
            model = materialise(inputs.files, Path(temporary)) / "model.onnx"
            built = build(Order(model, self.runtime, self.capability, self.profiles, self.options, cache), out / PLAN)
        return Engine(
            files={PLAN: describe_file(out / PLAN)},
            runtime=self.runtime,
            inputs=built.inputs,
            outputs=built.outputs,
            profiles=self.profiles,
            plans={self.capability: PLAN},
            record={
                "runtime": self.runtime,
                "version": built.version,
                "cuda": tensorrt.cuda(self.runtime),
                "compute_capability": self.capability,
                "gpu": gpu.name if gpu else None,
                "driver": gpu.driver if gpu else None,
                "flags": list(built.flags),
                "options": asdict(self.options),
                "layers": built.layers,
                "seconds": {**built.seconds, "stage": round(time.monotonic() - began, 3)},
                "timing_cache": built.timing_cache,
                # TensorRT times kernels, so that two builds may choose others; TensorRT-RTX does not.
                "reproducible": self.runtime == gpus.TENSORRT_RTX,
                **{key: inputs.record[key] for key in ("precision",) if key in inputs.record},
            },
        )

    def ensures(self, inputs: OnnxModel, output: Engine) -> None:
        """The plan is of the library that was asked for, and has the model's tensors."""
        tensorrt_plan.check(output.files[PLAN].path, self.runtime, self.library)
        names = [[tensor.name for tensor in side] for side in (inputs.inputs, inputs.outputs)]
        if [[tensor.name for tensor in side] for side in (output.inputs, output.outputs)] != names:
            raise InternalError(f"the engine takes {output.inputs} and gives {output.outputs}; the model {names}")


def _refuse(stage: Compile) -> None:
    """Refuses what the runtime has not.

    Raises:
        ModelError: the runtime cannot do what is asked, on any machine.
    """
    known = gpus.capabilities(stage.runtime)
    if stage.capability not in known:
        raise ModelError(
            f"compute capability {stage.capability}: {stage.runtime} does not compile for it; it does for "
            f"{', '.join(known)}",
            mend="take another runtime or another GPU",
        )
    if not stage.profiles:
        raise InternalError("an engine without optimisation profiles")
    options = stage.options
    asked = {
        "engine.version_compatible": options.version_compatible,
        "engine.hardware_compatibility": options.hardware_compatibility != "none",
    }
    for key, is_asked in asked.items():
        if is_asked and stage.runtime == gpus.TENSORRT_RTX:
            raise ModelError(
                f"{key}: tensorrt-rtx has no such plans: one is for the capabilities and the version it was made with",
                mend=f"leave {key} out, or take runtime tensorrt",
            )
