"""Lint of a recipe: what makes it unloadable, each with its place, and advice."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.errors import RecipeError
from builder.lint.finding import LOAD_ERROR, Finding, Report
from builder.lint.rule import RULES
from builder.recipe import Recipe, load
from builder.recipe.document import place_of
from builder.recipe.files import read_text
from builder.recipe.load import SIZE_LIMIT_BYTES
from builder.recipe.reader import parse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.lint.options import Options
    from builder.lint.rule import Rule
    from builder.recipe.composed import Composed
    from builder.recipe.document import Keys, Node
    from builder.rulebook import RuleFacts

_REFUSED: Final = "Q1"
_PLACE: Final = re.compile(r"^(?P<path>.*?):(?P<line>\d+):(?P<column>\d+): (?P<message>.*)$", re.DOTALL)


def lint_recipe(path: Path, options: Options) -> Report:
    """Lints a recipe.

    Raises:
        RecipeError: the file cannot be read.
    """
    text = read_text(path, limit_bytes=SIZE_LIMIT_BYTES)
    try:
        recipe = load(path)
    except RecipeError as error:
        return Report(tuple(_refused(path, line) for line in error.message.splitlines()), models=0)
    root = parse(text, str(path), [])
    found = [
        finding
        for below, one in _singles(recipe)
        for rule in RULES.values()
        for finding in _advice(rule, one, _At(root, path, below), options)
    ]
    if recipe.handoff is None:
        return _report(found)
    from builder.lint.handoffs import of_section, rules_of

    try:
        handed = list(of_section(recipe, path, root))
    except RecipeError as error:
        return _report([*found, *(_refused(path, line) for line in error.message.splitlines())])
    return _report([*found, *handed], rules_of(handed))


def _report(found: list[Finding], rules: tuple[RuleFacts, ...] = ()) -> Report:
    return Report(tuple(sorted(found, key=lambda one: (one.line or 0, one.rule, one.message))), models=0, rules=rules)


def _singles(recipe: Recipe | Composed) -> list[tuple[Keys, Recipe]]:
    """The recipe, or that of each of its models, and where it stands."""
    if isinstance(recipe, Recipe):
        return [((), recipe)]
    return [(("models", name), recipe.single(name)) for name in recipe.models]


def _refused(path: Path, text: str) -> Finding:
    found = _PLACE.match(text)
    if found is None:
        return Finding(_REFUSED, LOAD_ERROR, str(path), None, text.removeprefix(f"{path}: "), "")
    line, column = int(found["line"]), int(found["column"])
    return Finding(_REFUSED, LOAD_ERROR, found["path"], line, found["message"], "", column=column)


@dataclass(frozen=True, slots=True)
class _At:
    """Where a recipe of one model is written: the whole file, or one entry of ``models``."""

    root: Node
    path: Path
    below: Keys


def _advice(rule: Rule, recipe: Recipe, at: _At, options: Options) -> Iterator[Finding]:
    if rule.check_recipe is None:
        return
    for problem in rule.check_recipe(recipe, options):
        line, column = place_of(at.root, (*at.below, *problem.field.split("."))).order
        yield Finding(rule.id, rule.severity, str(at.path), line, problem.message, problem.mend, column=column)
