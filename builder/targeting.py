"""What a target means for the stages: compute capabilities, optimisation profiles, versions; and what is missing here.

Nothing of this machine gets into a key by this, but for ``hardware: local``, which says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from builder.artifacts import Profile
from builder.config.tokenize_step import DOUBLING, buckets, padding
from builder.errors import BlockedError
from builder.recipe.tasks import TASKS
from builder.tools import gpus, hardware
from builder.verify import load_samples

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import Engine, OnnxModel, Sample
    from builder.core.stage import Stage
    from builder.recipe import AnyRecipe, Recipe
    from builder.recipe.inputs import Range
    from builder.recipe.targets import Target

Sizes: TypeAlias = tuple[int, int, int]
"""Least, optimal, largest."""

SHORTEST: Final = 2
"""Tokens of an empty text, where the tokenizer adds a first and a last one: the default of shapes.sequence.min."""

_NO_GPU: Final = "hardware: local is this machine, which has no GPU"

_FAST_AT: Final = 64
"""Tokens that an engine is fastest at, where the recipe does not say: shapes.sequence.opt."""


def needs_optimise(target: Target) -> bool:
    """Whether the model is changed for a target: what the author published is fp32, for onnxruntime."""
    return target.runs_plans or target.precision != "fp32"


def capabilities(target: Target) -> tuple[str, ...]:
    """The compute capabilities that a target's plans are compiled for; none: it is this machine, which has no GPU."""
    if not target.hardware.local:
        return target.hardware.capabilities
    return tuple(sorted({gpu.compute_capability for gpu in hardware.gpus()}, key=gpus.ordinal))


def engine_stages(target: Target) -> dict[str, str]:
    """The stages that compile a target's plans → compute capability: one for each, so that each may run elsewhere.

    A single one is ``engine``; several are ``engine-7.5``, ``engine-8.6``, …. Empty for the capability: there is none.
    """
    if not target.runs_plans:
        return {}
    found = capabilities(target)
    return {"engine": "".join(found)} if len(found) < 2 else {f"engine-{one}": one for one in found}


def optimise(target: Target, tolerances: Mapping[str, float]) -> Stage[Any, OnnxModel]:
    """The stage that makes a model what a target computes.

    Raises:
        BlockedError: the target is this machine, which has no GPU.
    """
    from builder.optimise.stage import Optimise

    able = _some(capabilities(target)) if target.runs_plans else ()
    return Optimise(target.precision, target.runtime, able, target.tf32, target.precision_fallback, dict(tolerances))


def compile_for(recipe: Recipe, name: str, capability: str, max_length: int) -> Stage[OnnxModel, Engine]:
    """The stage that compiles a target's plan for one compute capability.

    Args:
        recipe: of one model.
        name: of the target.
        capability: one of :func:`capabilities`; empty: there is none.
        max_length: tokens of the longest text.

    Raises:
        BlockedError: the target is this machine, which has no GPU.
        UserError: profiles are wrong, or the Triton release could not load the plan.
    """
    from builder.engine import Compile, EngineOptions

    target = recipe.targets[name]
    said = target.engine.model_dump(exclude={"tensorrt"}) if target.engine else {}
    (capability,) = _some((capability,) if capability else ())
    options = EngineOptions(**said, tf32=target.tf32)
    return Compile(target.runtime, library_version(target), capability, profiles(recipe, max_length), options)


def _some(found: tuple[str, ...]) -> tuple[str, ...]:
    if found:
        return found
    raise BlockedError(_NO_GPU, mend="build where the GPU is, or name it: {gpu: L4}")


def library_version(target: Target) -> str:
    """The TensorRT, or TensorRT for RTX, that compiles a target's plans.

    Raises:
        UserError: the Triton release cannot load plans of what the recipe states, or its TensorRT is unknown.
    """
    from builder.tools import compatibility

    if target.runtime == gpus.TENSORRT_RTX:
        return compatibility.TENSORRT_RTX_VERSION
    said = target.engine
    compatible = said is not None and said.version_compatible
    return compatibility.engine_version(target.triton, said.tensorrt if said else None, version_compatible=compatible)


def serving_libraries(target: Target) -> tuple[str, ...]:
    """What the server that verifies needs to run a target's plans, for pip."""
    if not target.runs_plans:
        return ()
    from builder.tools import compatibility

    return compatibility.serving_libraries(target.triton, target.runtime, library_version(target))


def profiles(recipe: Recipe, max_length: int) -> tuple[Profile, ...]:
    """The optimisation profiles of a recipe's engines: what it states, or what suits the lengths of its texts.

    Args:
        recipe: of one model that takes texts.
        max_length: tokens of the longest text.

    Raises:
        ModelError: the stated profiles leave out shapes that requests may have.
    """
    from builder.engine import plan_profiles

    shapes = recipe.shapes
    lengths: tuple[int, ...] = ()
    least = min((shapes.sequence and shapes.sequence.min) or SHORTEST, max_length)
    if padding(recipe.inputs.model_dump(), gpu=True) == "buckets":
        known = buckets(recipe.inputs.buckets, max_length, DOUBLING)
        lengths = tuple(length for length in known if length >= least)  # shorter texts are padded to the first
        least = lengths[0]
    batch = (shapes.batch.min, shapes.batch.opt, shapes.batch.max)
    sequence = _within(shapes.sequence, (least, min(max(least, _FAST_AT), max_length), max_length))
    given = [Profile(_within(one.batch, batch), _within(one.sequence, sequence)) for one in shapes.profiles or ()]
    return plan_profiles(batch, sequence, lengths, given)


def _within(stated: Range | None, whole: Sizes) -> Sizes:
    """Least, optimal and largest size, as far as they are stated; the rest is that of the whole."""
    if stated is None:
        return whole
    least, most = stated.min or whole[0], stated.max or whole[2]
    return least, stated.opt or max(least, min(whole[1], most)), most


def calibration(recipe: Recipe, name: str) -> tuple[Sample, ...]:
    """The texts that a target's numbers are calibrated on; none where it needs none, or takes the stage's own.

    Raises:
        RecipeError: the file holds no samples, or others than the task takes.
    """
    said = recipe.targets[name].calibration
    if said is None:
        return ()
    short_first = TASKS[recipe.task].truncation == "only_second"
    return load_samples(said.samples, text_pair=recipe.inputs.text_pair, short_first=short_first)


def lacking(recipe: AnyRecipe, name: str) -> dict[str, str]:
    """What this machine lacks for a target, by the stage that needs it: :func:`engine_stages`, ``measure``."""
    target = recipe.targets[name]
    if not target.runs_plans:
        return {}
    from builder.tools import tensorrt

    wanted, version = capabilities(target), library_version(target)
    strip = target.engine is not None and target.engine.strip_weights
    unmet = {one: tensorrt.blocked(target.runtime, version, one, strip_weights=strip) for one in wanted}
    if not wanted:
        return dict.fromkeys(("optimise", "measure"), _NO_GPU)
    missing = gpus.missing(wanted, target.hardware.gpu_names)
    found = {stage: error.message for stage, one in engine_stages(target).items() if (error := unmet.get(one))}
    if target.runtime == gpus.TENSORRT and missing:  # its compiler times kernels on the GPU that will run them
        for stage, one in engine_stages(target).items():
            alone = gpus.missing((one,))
            found[stage] = "; ".join(filter(None, (found.get(stage), f"it needs {alone}" if alone else "")))
    if missing:
        found["measure"] = f"a plan of {target.runtime} runs on its GPU alone: it needs {missing}"
    return found
