"""Section ``targets``: what the archive is built for. Next, what its keys mean for one another: ``target_checks``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from builder.recipe.base import Count, RecipePath, Section, unique, wrong
from builder.recipe.suggest import did_you_mean, show
from builder.tools import gpus, releases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

    from builder.artifacts import Json

GPU_RUNTIMES: Final = (gpus.TENSORRT, gpus.TENSORRT_RTX)
"""Runtimes that run a plan, compiled for a compute capability, and not the ONNX file."""

_VCPUS_BESIDE_A_GPU: Final = 4
"""Virtual CPUs where only a GPU is named: what the smallest instances with one GPU have (ml.g4dn.xlarge, ml.g5.xlarge,
ml.g6.xlarge). It decides the tokenizer's threads."""


def _one_of(value: str, known: Sequence[str], what: str) -> str:
    if value in known:
        return value
    raise wrong(f"must be {what}, one of {', '.join(known)}; got {show(value)}{did_you_mean(value, known)}")


def _check_gpu(value: str) -> str:
    return _one_of(value, tuple(gpus.load_gpus()), "a GPU")


def _check_capability(value: str) -> str:
    return _one_of(value, gpus.known_capabilities(), "a GPU's compute capability")


def _check_instance(value: str) -> str:
    known = gpus.load_instances()
    if value in known:
        return value
    near = [name for name in known if name.split(".")[1] == value.removeprefix("ml.").split(".")[0]]
    families = dict.fromkeys(name.split(".")[1] for name in known)
    allowed = ", ".join(near) if near else f"types of the families {', '.join(families)}"
    raise wrong(f"must be a known instance type: {allowed}; got {show(value)}{did_you_mean(value, known)}")


def _as_tuple(value: Json) -> Json:
    return tuple(value) if isinstance(value, list) else value


GpuName = Annotated[str, AfterValidator(_check_gpu)]
Gpus = Annotated[tuple[GpuName, ...], Field(min_length=1), unique("the GPUs"), BeforeValidator(_as_tuple)]


class Hardware(Section):
    """The machine that will serve. Threads and instances follow it, never the machine that builds."""

    vcpus: Annotated[int, Field(ge=1, le=4096)] | None = None
    """The number of virtual CPUs. Beside an instance: no more than it has. Left out beside a GPU: 4."""

    local: bool = False
    """This machine, whatever it has; `hardware: local` says the same."""

    instance: Annotated[str, AfterValidator(_check_instance)] | None = None
    """A cloud instance type, such as ml.g4dn.xlarge."""

    gpu: GpuName | None = None
    """A GPU, such as L4."""

    gpus: Gpus | None = None
    """Several GPUs: one archive with a plan for the compute capability of each. An archive each: several targets."""

    compute_capability: Annotated[str, AfterValidator(_check_capability)] | None = None
    """A GPU's compute capability, such as "8.9", in quotes."""

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The compute capabilities of its GPUs, ascending, each once; none for a CPU, and for this machine."""
        if self.compute_capability is not None:
            return (self.compute_capability,)
        names = {gpus.load_gpus()[name].compute_capability for name in self.gpu_names}
        return tuple(sorted(names, key=gpus.ordinal))

    @property
    def gpu_names(self) -> tuple[str, ...]:
        """The GPUs that it names, itself or by an instance."""
        named = gpus.load_instances()[self.instance].gpu if self.instance is not None else self.gpu
        return (named,) if named is not None else self.gpus or ()

    @property
    def declared_vcpus(self) -> int | None:
        """Virtual CPUs as far as the recipe says; None: those of this machine."""
        if self.vcpus is not None or self.local:
            return self.vcpus
        return gpus.load_instances()[self.instance].vcpus if self.instance is not None else _VCPUS_BESIDE_A_GPU


def _expand_local(value: Json) -> Json:
    if isinstance(value, str):
        if value != "local":
            kind = "gpu" if value in gpus.load_gpus() else "instance" if value in gpus.load_instances() else None
            hint = f"; did you mean {{{kind}: {value}}}?" if kind else ""
            raise wrong(f"must be a mapping such as {{vcpus: 2}}, or 'local' (this machine); got {value!r}{hint}")
        return {"local": True}
    return value


class _LocalInSchema:
    """Tells editors that a word may stand for the mapping."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"const": "local"}, handler(schema)]}


_KINDS: Final = ("instance", "gpu", "gpus", "compute_capability")


def _check_one(value: Hardware) -> Hardware:
    named = [kind for kind in _KINDS if getattr(value, kind) is not None]
    if value.local and (named or value.vcpus is not None):
        raise wrong(f"local is this machine, whatever it has: leave out {', '.join(named) or 'vcpus'}")
    if len(named) > 1:
        raise wrong(f"give one of {', '.join(_KINDS)}; got {' and '.join(named)}")
    if not named and value.vcpus is None and not value.local:
        raise wrong(f"give vcpus (a number), local (this machine), or one of {', '.join(_KINDS)}")
    most = gpus.load_instances()[value.instance].vcpus if value.instance is not None else value.vcpus
    if value.vcpus is not None and most is not None and value.vcpus > most:
        raise wrong(f"{value.instance} has {most} virtual CPUs; got vcpus: {value.vcpus}")
    return value


def _check_release(value: str) -> str:
    known = releases.names()
    if value not in known:
        hint = did_you_mean(value, known)
        raise wrong(f'must be a Triton release, from "{known[0]}" to "{known[-1]}"; got {show(value)}{hint}')
    return value


class Calibration(Section):
    """What int8 and fp8 are calibrated on: the largest values that layers see."""

    samples: RecipePath
    """Real texts, as for verify.samples, but others: .txt with one per line, or .jsonl."""


_VERSION: Final = r"^[0-9]{1,3}(\.[0-9]{1,4}){2,3}$"


def _check_version(value: str) -> str:
    if re.fullmatch(_VERSION, value) is None:
        raise wrong(f'must be a version of TensorRT, such as "10.13.3.9"; got {show(value)}')
    return value


TensorRTVersion = Annotated[str, AfterValidator(_check_version), Field(json_schema_extra={"pattern": _VERSION})]


class EngineOptions(Section):
    """How TensorRT compiles a plan, in TensorRT's own words."""

    tensorrt: TensorRTVersion | None = None
    """The TensorRT that compiles the plan and will load it, such as "10.13.3.9", in quotes. Left out: that of the
    Triton release, where it is known."""

    workspace_mib: Count | None = None
    """The most memory that a layer may use while it runs, in MiB. Left out: all of the GPU's."""

    optimization_level: Annotated[int, Field(ge=0, le=5)] = 3
    """How long to look for faster kernels: from 0 to 5."""

    version_compatible: bool = False
    """Whether later TensorRT releases of the same major version may load the plan too."""

    hardware_compatibility: Literal["none", "ampere_plus", "same_compute_capability"] = "none"
    """Which GPUs may run the plan beside the one that it was compiled on."""

    strip_weights: bool = False
    """Whether the plan is stored without weights, which are put back from the model when it is loaded."""


_SPOKEN_OF: Final = {"tf32": False, "precision_fallback": True}
"""Keys that recipes had not always, with their defaults: a recipe that does not change them keeps its keys."""


class Target(Section):
    """One thing to build for: a runtime at a precision, on a machine, in a Triton release."""

    runtime: Literal["onnxruntime", "tensorrt", "tensorrt-rtx"]
    """What runs the model inside Triton. onnxruntime: on a CPU. tensorrt: NVIDIA's backend; its plans are compiled on
    their GPU. tensorrt-rtx: TensorRT for RTX, in a Python-based backend of ours; its plans are compiled anywhere."""

    precision: Literal["fp32", "fp16", "bf16", "int8", "fp8"] = "fp32"
    """The number format of weights and computation."""

    tf32: bool = False
    """Whether a GPU may multiply fp32 matrices in TF32, which has 10 bits of mantissa in place of 23."""

    precision_fallback: bool = True
    """What is done where the precision misses its tolerance. true: the worst operations are kept in fp32; then bf16,
    then fp32 is taken. false: the build fails."""

    hardware: Annotated[
        Hardware,
        BeforeValidator(_expand_local),
        AfterValidator(_check_one),
        _LocalInSchema(),
    ] = Hardware(vcpus=2)
    """The machine that will serve: {vcpus: 2}, {gpu: L4}, {instance: ml.g4dn.xlarge}, or local for this one."""

    calibration: Calibration | None = None
    """What int8 and fp8 are calibrated on. Left out: a set of real texts that ships with tritonsmith."""

    engine: EngineOptions | None = None
    """How a plan is compiled, for tensorrt and tensorrt-rtx."""

    triton: Annotated[
        str, AfterValidator(_check_release), Field(json_schema_extra={"enum": list(releases.names())})
    ] = "25.09"
    """The Triton release that will serve, in quotes: "25.09"."""

    @property
    def runs_plans(self) -> bool:
        """Whether the model is compiled for a GPU."""
        return self.runtime in GPU_RUNTIMES

    @model_serializer(mode="wrap")
    def _without_new_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        data: dict[str, object] = handler(self)
        return {key: value for key, value in data.items() if _SPOKEN_OF.get(key) is not value}
