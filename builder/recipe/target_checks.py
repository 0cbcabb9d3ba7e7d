"""What a target's keys mean for one another: a precision that a GPU does not have, options that a runtime has not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from builder.errors import UserError
from builder.recipe.targets import GPU_RUNTIMES, Hardware, Target
from builder.tools import gpus, releases

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.artifacts import Json
    from builder.recipe.checks import View
    from builder.recipe.document import Keys, Problem

_ON_CPUS: Final = ("fp32", "int8")
"""What onnxruntime computes in on a CPU; fp16 and bf16 it converts to fp32 before, and back after, each operation."""

_CALIBRATED: Final = ("int8", "fp8")


def check_targets(view: View, *, several: bool = False) -> Iterator[Problem]:
    """All problems of the section ``targets``.

    Args:
        view: the recipe.
        several: whether it is of several models.
    """
    targets = view.get(("targets",))
    for name, target in (targets if isinstance(targets, dict) else {}).items():
        if isinstance(target, dict):
            yield from _check(view, ("targets", name), target, several=several)
    if not _has_engines(targets) and view.get(("shapes", "profiles")) is not None:
        yield view.key_problem(("shapes", "profiles"), f"of no use without a target of {' or '.join(GPU_RUNTIMES)}")


def _has_engines(targets: Json) -> bool:
    each = targets.values() if isinstance(targets, dict) else ()
    return any(isinstance(target, dict) and target.get("runtime") in GPU_RUNTIMES for target in each)


def _check(view: View, place: Keys, target: Mapping[str, Json], *, several: bool) -> Iterator[Problem]:
    runtime, precision = view.get((*place, "runtime")), view.get((*place, "precision")) or "fp32"
    if several and (runtime in GPU_RUNTIMES or precision != "fp32"):
        key = "runtime" if runtime in GPU_RUNTIMES else "precision"
        words = f"{key} {target[key]!r} is not yet supported in a recipe of several models; allowed: onnxruntime, fp32"
        yield view.problem((*place, key), words)
    elif runtime in GPU_RUNTIMES:
        yield from _gpu(view, place, runtime, precision)
    elif runtime is not None:
        yield from _cpu(view, place, precision)
    if "calibration" in target and target["calibration"] is not None and precision not in _CALIBRATED:
        words = f"of no use with {view.named((*place, 'precision'))} {precision}; for: {', '.join(_CALIBRATED)}"
        yield view.key_problem((*place, "calibration"), words)


def _cpu(view: View, place: Keys, precision: str) -> Iterator[Problem]:
    hardware = _hardware(view.get((*place, "hardware")))
    if hardware is not None and (hardware.gpu_names or hardware.compute_capability):
        words = (
            f"onnxruntime on a GPU is not yet supported; on a GPU: {', '.join(GPU_RUNTIMES)}; on a CPU: {{vcpus: 2}}"
        )
        yield view.problem((*place, "hardware"), words)
    if precision not in _ON_CPUS:
        words = f"onnxruntime on a CPU does not compute in {precision}; allowed: {', '.join(_ON_CPUS)}"
        yield view.problem((*place, "precision"), words)
    for key in ("engine", "tf32"):
        if view.get((*place, key)):
            yield view.key_problem((*place, key), f"of no use with onnxruntime; for: {', '.join(GPU_RUNTIMES)}")


def _gpu(view: View, place: Keys, runtime: str, precision: str) -> Iterator[Problem]:
    written = view.get((*place, "hardware"))
    hardware = _hardware(written)
    if written is None and (*place, "hardware") in view.bad:
        return
    if hardware is not None and not (hardware.local or hardware.capabilities):
        words = f"{runtime} needs a GPU: name it, as in {{gpu: T4}}, {{instance: ml.g4dn.xlarge}}, or local"
        yield view.problem((*place, "hardware"), words)
    able = gpus.capabilities(runtime)
    tf32 = view.get((*place, "tf32"))
    for capability in hardware.capabilities if hardware else ():
        if capability not in able:
            words = f"{runtime} does not support {_called(hardware, capability)}; allowed: {', '.join(able)}"
            yield view.problem((*place, "hardware"), words)
        elif precision not in able[capability]:
            yield view.problem((*place, "precision"), _unable(runtime, hardware, capability, precision))
        elif tf32 and "tf32" not in able[capability]:
            yield view.key_problem((*place, "tf32"), f"{_called(hardware, capability)} has no TF32; leave it out")
    if tf32 and precision != "fp32":
        named = view.named((*place, "precision"))
        yield view.key_problem((*place, "tf32"), f"of no use with {named} {precision}; for: fp32")
    yield from _options(view, place, runtime, hardware)
    yield from _version(view, place, runtime)


def _options(view: View, place: Keys, runtime: str, hardware: Hardware | None) -> Iterator[Problem]:
    key = (*place, "engine", "hardware_compatibility")
    level = view.get(key) if view.get(key) != "none" else None
    asked = {"hardware_compatibility": level, "version_compatible": view.get((*place, "engine", "version_compatible"))}
    for name, value in asked.items() if runtime == gpus.TENSORRT_RTX else ():
        if value:
            words = f"is of tensorrt; a plan of {runtime} is for the capabilities and the version that it is made with"
            yield view.key_problem((*place, "engine", name), words)
    for capability in hardware.capabilities if hardware and level == "ampere_plus" else ():
        if gpus.ordinal(capability) < (8, 0):
            yield view.problem(key, f"'ampere_plus' begins at compute capability 8.0; the target has {capability}")


def _version(view: View, place: Keys, runtime: str) -> Iterator[Problem]:
    """That the Triton release can load what its TensorRT, or the stated one, compiles."""
    key = (*place, "engine", "tensorrt")
    stated = view.get(key)
    if runtime == gpus.TENSORRT_RTX:
        if stated is not None:
            yield view.key_problem(key, f"of no use with {runtime}, which brings a library of its own")
        return
    triton = view.get((*place, "triton")) or Target.model_fields["triton"].default
    if triton not in releases.names() or (*place, "triton") in view.bad or key in view.bad:
        return
    from builder.tools.compatibility import engine_version

    compatible = view.get((*place, "engine", "version_compatible")) is True
    try:
        engine_version(triton, stated, version_compatible=compatible)
    except UserError as error:
        yield view.problem(key if stated else (*place, "triton"), f"{error.message}; {error.mend}")


def _called(hardware: Hardware | None, capability: str) -> str:
    """``compute capability 9.0 (H100)``: with the GPUs by which the recipe names it."""
    known = gpus.load_gpus()
    names = [one for one in hardware.gpu_names if known[one].compute_capability == capability] if hardware else []
    return f"compute capability {capability}" + (f" ({', '.join(names)})" if names else "")


def _unable(runtime: str, hardware: Hardware | None, capability: str, precision: str) -> str:
    able = gpus.capabilities(runtime)[capability]
    allowed = ", ".join(name for name in ("fp32", "fp16", "bf16", "int8", "fp8") if name in able)
    return f"{runtime} does not compute in {precision} on {_called(hardware, capability)}; allowed: {allowed}"


def _hardware(written: Json) -> Hardware | None:
    """What is written, or its default; None where it is wrong, which is said elsewhere."""
    if written is None:
        return Hardware(vcpus=2)
    try:
        return Hardware(local=True) if written == "local" else Hardware.model_validate(written)
    except ValidationError:
        return None
