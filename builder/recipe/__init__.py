"""Recipes: YAML → frozen, checked :class:`Recipe`.

Read in this order: :mod:`~builder.recipe.load` (the way of a file), :mod:`~builder.recipe.schema` (the root, and one
module per section), :mod:`~builder.recipe.checks` (what spans sections).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from builder.recipe.load import load
from builder.recipe.schema import Recipe, json_schema

if TYPE_CHECKING:
    from builder.recipe.composed import Composed

AnyRecipe: TypeAlias = "Recipe | Composed"
"""Of one model, or of several in a pipeline of named steps."""

__all__ = ["AnyRecipe", "Recipe", "json_schema", "load"]
