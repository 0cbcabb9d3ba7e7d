"""What a recipe says of an engine's profiles, before there is an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.artifacts import Profile
from builder.config.tokenize_step import minimum_length

if TYPE_CHECKING:
    from builder.recipe import Recipe
    from builder.recipe.inputs import BatchRange, ProfileRange


def stated_profiles(recipe: Recipe) -> tuple[Profile, ...]:
    """The optimisation profiles, in order.

    A profile without a largest length takes texts of any: the tokenizer, which is not read yet, tells the largest.
    """
    shapes = recipe.shapes
    if shapes.profiles is None:
        return (Profile(_sizes(shapes.batch)),)
    return tuple(_profile(recipe, profile) for profile in shapes.profiles)


def _profile(recipe: Recipe, profile: ProfileRange) -> Profile:
    stated, whole = profile.sequence, recipe.shapes.sequence
    least = (stated.min if stated else None) or minimum_length(recipe)
    longest = (stated.max if stated else None) or (whole.max if whole else None)
    if longest is None:
        return Profile(_sizes(profile.batch))
    return Profile(_sizes(profile.batch), (least, (stated.opt if stated else None) or longest, longest))


def _sizes(batch: BatchRange) -> tuple[int, int, int]:
    return batch.min, batch.opt, batch.max
