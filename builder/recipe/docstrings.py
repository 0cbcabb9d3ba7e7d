"""The help texts of a recipe's keys: the docstrings below the attributes of its sections.

pydantic would read them itself (``use_attribute_docstrings``), from the source of every class, whenever it is imported:
25 ms of every command, for something that only the JSON schema needs.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import TYPE_CHECKING

from builder.recipe.base import Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel


def describe(model: type[BaseModel]) -> None:
    """Puts the docstrings of a model's attributes into its fields, and into those of the models in them."""
    # Each before those that hold it: a module's classes in the order of their definition, and the whole one last.
    sections = sorted(set(_sections(Section)), key=lambda one: (one is model, one.__module__, _line(one)))
    for section in sections:
        texts = _texts(section)
        for name, field in section.model_fields.items():
            field.description = field.description or texts.get(name)
        section.model_rebuild(force=True)


def _sections(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """All subclasses."""
    for section in base.__subclasses__():
        yield section
        yield from _sections(section)


def _line(section: type[BaseModel]) -> int:
    return inspect.getsourcelines(section)[1]


def _texts(section: type[BaseModel]) -> dict[str, str]:
    """Attribute → docstring, of a class and of those that it is made from."""
    found: dict[str, str] = {}
    for one in reversed(section.__mro__):
        if one.__module__.startswith("builder."):
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
            found |= _of_class(tree) if isinstance(tree, ast.ClassDef) else {}
    return found


def _of_class(tree: ast.ClassDef) -> dict[str, str]:
    found = {}
    for statement, after in zip(tree.body, tree.body[1:], strict=False):
        text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else None
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and isinstance(text, str):
            found[statement.target.id] = inspect.cleandoc(text)
    return found
