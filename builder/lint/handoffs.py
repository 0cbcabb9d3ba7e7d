"""Lint of what is handed off: a release folder, and the section ``handoff`` of a recipe.

The rules are those of :mod:`builder.handoff`; here they become findings with a file and a line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.errors import RecipeError, UserError
from builder.handoff import linting
from builder.handoff.rules import all_rules
from builder.lint.finding import ADVICE, HOSTING_ERROR, Finding, Report
from builder.recipe.document import place_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from builder.recipe import AnyRecipe
    from builder.recipe.document import Node
    from builder.rulebook import RuleFacts

_SECTION: Final = "handoff"
_CANNOT: Final = "Q3"


def lint_release(folder: Path) -> Report:
    """Lints a release folder.

    Raises:
        ArchiveError: its files are not what was written.
        MachineError: botocore is not installed.
    """
    found = [
        Finding(one.rule, one.severity, file, None, f"{one.where} {one.message}", one.mend)
        for file, one in linting.of_release(folder)
    ]
    order = sorted(found, key=lambda one: (one.severity == ADVICE, one.path, one.rule, one.message))
    return Report(tuple(order), 0, rules_of(order))


def of_section(recipe: AnyRecipe, path: Path, root: Node) -> Iterator[Finding]:
    """What the hand-off of each target would break, at the line of the section; nothing without one.

    Raises:
        RecipeError: the section is wrong.
        MachineError: botocore is not installed.
    """
    line, column = place_of(root, (_SECTION,), key=True).order
    for target in recipe.targets if recipe.handoff is not None else ():
        named = f"{target}: " if len(recipe.targets) > 1 else ""
        try:
            found = linting.of_recipe(recipe, target)
        except RecipeError:
            raise
        except UserError as error:
            message = f"{named}{error.message}"
            yield Finding(_CANNOT, HOSTING_ERROR, str(path), line, message, error.mend, column=column)
            continue
        for one in found:
            message = f"{named}{one.where} {one.message}"
            yield Finding(one.rule, one.severity, str(path), line, message, one.mend, column=column)


def rules_of(findings: Sequence[Finding]) -> tuple[RuleFacts, ...]:
    """The rules of hand-offs that found something."""
    found = {one.rule for one in findings}
    return tuple(rule for rule in all_rules() if rule.id in found)
