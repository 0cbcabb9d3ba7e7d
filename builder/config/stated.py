"""What a recipe says of an engine's profiles, before there is an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.artifacts import Profile
from builder.config.refuse import refused
from builder.config.tokenize_step import minimum_length

if TYPE_CHECKING:
    from builder.recipe import Recipe
    from builder.recipe.inputs import ProfileRange, Range


def stated_profiles(recipe: Recipe) -> tuple[Profile, ...]:
    """The optimisation profiles that a recipe states, in order; none: they are made when its lengths are known.

    A profile without a largest length takes texts of any: the tokenizer, which is not read yet, tells the largest.
    """
    return tuple(_profile(recipe, profile) for profile in recipe.shapes.profiles or ())


def check_served(recipe: Recipe, target: str) -> None:
    """Checks that the backend of a target can load what is built for it.

    Raises:
        RecipeError: it cannot.
    """
    asked, batch = recipe.targets[target], recipe.shapes.batch
    if asked.runtime == "tensorrt" and asked.engine is not None and asked.engine.strip_weights:
        # There is no refitter in triton-inference-server/tensorrt_backend (e2ef6d7).
        words = "NVIDIA's backend does not put the weights back into a plan; allowed: false, or runtime tensorrt-rtx"
        raise refused(recipe.root, ("targets", target, "engine", "strip_weights"), words)
    if asked.runs_plans and recipe.shapes.profiles is None and batch.min > 1:
        words = f"is {batch.min}, but requests of 1 text come, too, and no profile of the engine would take them"
        raise refused(recipe.root, ("shapes", "batch", "min"), words)


def _profile(recipe: Recipe, profile: ProfileRange) -> Profile:
    stated, whole, batch = profile.sequence, recipe.shapes.sequence, _batch(recipe, profile.batch)
    least = (stated.min if stated else None) or minimum_length(recipe)
    longest = (stated.max if stated else None) or (whole.max if whole else None)
    if longest is None:
        return Profile(batch)
    return Profile(batch, (least, (stated.opt if stated else None) or longest, longest))


def _batch(recipe: Recipe, stated: Range | None = None) -> tuple[int, int, int]:
    """Batch sizes, as far as a profile states them; the rest is that of the whole."""
    whole = recipe.shapes.batch
    if stated is None:
        return whole.min, whole.opt, whole.max
    least, most = stated.min or whole.min, stated.max or whole.max
    return least, stated.opt or max(least, min(whole.opt, most)), most
