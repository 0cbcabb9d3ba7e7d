"""Recipes: YAML → frozen, checked :class:`Recipe`.

Read in this order: :mod:`~builder.recipe.load` (the way of a file), :mod:`~builder.recipe.schema` (the root, and one
module per section), :mod:`~builder.recipe.checks` (what spans sections).
"""

from builder.recipe.load import load
from builder.recipe.schema import Recipe, json_schema

__all__ = ["Recipe", "json_schema", "load"]
