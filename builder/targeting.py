"""What a target means for the stages: compute capabilities, optimisation profiles, versions; and what is missing here.

Nothing of this machine gets into a key by this, but for ``hardware: local``, which says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.artifacts import Profile
from builder.config.tokenize_step import DOUBLING, buckets, padding
from builder.errors import BlockedError
from builder.tools import gpus, hardware, installed
from builder.tools.compatibility import TENSORRT_RTX_VERSION, engine_version, loads

if TYPE_CHECKING:
    from builder.recipe import AnyRecipe, Recipe
    from builder.recipe.inputs import BatchRange, ProfileRange, Range, Shapes
    from builder.recipe.targets import Target

SHORTEST: Final = 2
"""Tokens of an empty text, where the tokenizer adds a first and a last one: the default of shapes.sequence.min."""

_FAST_AT: Final = 64
"""Tokens that an engine is fastest at, where the recipe does not say: shapes.sequence.opt."""

_LIBRARIES: Final = ("tensorrt-cu13-libs", "tensorrt-cu12-libs", "tensorrt-libs", "tensorrt")
"""Distributions that bring TensorRT."""


def needs_optimise(target: Target) -> bool:
    """Whether the model is changed for a target: what the author published is fp32, for onnxruntime."""
    return target.runs_plans or target.precision != "fp32"


def capabilities(target: Target) -> tuple[str, ...]:
    """The compute capabilities of a target that runs plans.

    Raises:
        BlockedError: it is this machine, which has no GPU.
    """
    if not target.hardware.local:
        return target.hardware.capabilities
    found = {gpu.compute_capability for gpu in hardware.gpus()}
    if not found:
        raise BlockedError(
            "hardware: local is this machine, which has no GPU", mend="build where the GPU is, or name it: {gpu: L4}"
        )
    return tuple(sorted(found, key=gpus.ordinal))


def library_version(target: Target) -> str:
    """The TensorRT, or TensorRT for RTX, that compiles a target's plans.

    Raises:
        UserError: the Triton release cannot load plans of what the recipe states, or its TensorRT is unknown.
    """
    if target.runtime == gpus.TENSORRT_RTX:
        return TENSORRT_RTX_VERSION
    said = target.engine
    compatible = said is not None and said.version_compatible
    return engine_version(target.triton, said.tensorrt if said else None, version_compatible=compatible)


def profiles(recipe: Recipe, max_length: int | None) -> tuple[Profile, ...]:
    """The optimisation profiles of a recipe's engines: those that it states, or one for all that the tokenizer makes.

    Args:
        recipe: of one model.
        max_length: tokens of the longest text; None: the model takes no texts.
    """
    shapes = recipe.shapes
    if max_length is None:
        return tuple(Profile(_batch(one.batch)) for one in shapes.profiles or (shapes,))
    stated = shapes.sequence
    least = (stated.min if stated else None) or SHORTEST
    if padding(recipe.inputs.model_dump(), gpu=True) == "buckets":  # shorter texts are padded to the first
        lengths = buckets(recipe.inputs.buckets, max_length, DOUBLING)
        least = next(length for length in lengths if length >= min(least, max_length))
    longest = (stated.max if stated else None) or max_length
    return tuple(_profile(one, stated, least, longest) for one in shapes.profiles or (shapes,))


def _profile(one: ProfileRange | Shapes, whole: Range | None, least: int, longest: int) -> Profile:
    said = one.sequence
    first, last = (said and said.min) or least, (said and said.max) or longest
    best = (said and said.opt) or (whole and whole.opt) or _FAST_AT
    return Profile(_batch(one.batch), (first, max(first, min(best, last)), last))


def _batch(sizes: BatchRange) -> tuple[int, int, int]:
    return sizes.min, sizes.opt, sizes.max


def lacking(recipe: AnyRecipe, name: str) -> dict[str, str]:
    """What this machine lacks for a target, by the stage that needs it: ``engine``, ``measure``."""
    target = recipe.targets[name]
    if not target.runs_plans:
        return {}
    gpu = _missing_gpu(target)
    if target.runtime == gpus.TENSORRT:  # it times kernels on the GPU that will run them
        missing = " and ".join(filter(None, (gpu, _missing_library(target))))
        return {stage: f"{target.runtime} needs {missing}" for stage in ("engine", "measure") if missing}
    return {"measure": f"a plan of {target.runtime} runs on its GPU alone: needs {gpu}"} if gpu else {}


def _missing_gpu(target: Target) -> str:
    """The GPUs of a target that are not here, in words; empty: all are."""
    here = [gpu.compute_capability for gpu in hardware.gpus()]
    wanted = target.hardware.capabilities
    absent = [capability for capability in wanted if capability not in here]
    if (target.hardware.local and here) or not (absent or target.hardware.local):
        return ""
    named = f" ({', '.join(target.hardware.gpu_names)})" if target.hardware.gpu_names else ""
    what = f"a GPU of compute capability {' and one of '.join(absent)}{named}" if absent else "a GPU"
    return f"{what}; this machine has {', '.join(here) or 'none'}"


def _missing_library(target: Target) -> str:
    wanted = library_version(target)
    found = next((version for name in _LIBRARIES if (version := installed.version(name))), None)
    if found is not None and loads(found, wanted, version_compatible=False):
        return ""
    return f"TensorRT {wanted}; installed is {found or 'none'}"
