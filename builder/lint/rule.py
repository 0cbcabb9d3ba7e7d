"""The registry of rules: one rule is one function and one id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from builder.errors import InternalError
from builder.rulebook import ALL_RELEASES, LOAD_ERROR, SEVERITIES, RuleFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.lint.model import Model, World
    from builder.lint.options import Options
    from builder.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Problem:
    """What a rule found; the engine makes a :class:`~builder.lint.finding.Finding` of it.

    Args:
        message: what is wrong, with the value and what is allowed.
        mend: what to do about it, as an imperative sentence.
        field: the place in the model's config, ``input[0].dims``: gives the line.
        path: the file, relative to what was linted; None for the model's config (or its folder, without one).
        line: its line, where ``field`` does not give it.
        releases: overrides the rule's.
    """

    message: str
    mend: str = ""
    field: str = ""
    path: str | None = None
    line: int | None = None
    releases: str = ""


Problems: TypeAlias = "Iterator[Problem]"
ModelCheck: TypeAlias = "Callable[[Model, World], Problems]"
RepositoryCheck: TypeAlias = "Callable[[World], Problems]"
RecipeCheck: TypeAlias = "Callable[[Recipe, Options], Problems]"


@dataclass(frozen=True, slots=True)
class Rule(RuleFacts):
    """One thing that must hold, and who asks it.

    Args:
        check_model: called for each model; or
        check_repository: called once; or
        check_recipe: called for a recipe that can be loaded.
    """

    check_model: ModelCheck | None = None
    check_repository: RepositoryCheck | None = None
    check_recipe: RecipeCheck | None = None

    @property
    def module(self) -> str:
        """The name of the module of :mod:`builder.lint.rules` that has it."""
        check = self.check_model or self.check_repository or self.check_recipe
        return check.__module__.rpartition(".")[2] if check else ""


RULES: Final[dict[str, Rule]] = {}
"""Id → rule, in the order of their definition; filled by importing :mod:`builder.lint.rules`."""


def model_rule(
    rule_id: str,
    severity: str,
    title: str,
    *,
    why: str,
    source: str,
    releases: str = ALL_RELEASES,
    hosts: tuple[str, ...] = (),
) -> Callable[[ModelCheck], ModelCheck]:
    """Registers a function ``(model, world) -> Iterator[Problem]``; see :class:`Rule`."""

    def register(check: ModelCheck) -> ModelCheck:
        _register(Rule(rule_id, severity, title, why, source, releases, hosts, check_model=check))
        return check

    return register


def repository_rule(
    rule_id: str,
    severity: str,
    title: str,
    *,
    why: str,
    source: str,
    releases: str = ALL_RELEASES,
    hosts: tuple[str, ...] = (),
) -> Callable[[RepositoryCheck], RepositoryCheck]:
    """Registers a function ``(world) -> Iterator[Problem]``; see :class:`Rule`."""

    def register(check: RepositoryCheck) -> RepositoryCheck:
        _register(Rule(rule_id, severity, title, why, source, releases, hosts, check_repository=check))
        return check

    return register


def recipe_rule(
    rule_id: str, severity: str, title: str, *, why: str, source: str
) -> Callable[[RecipeCheck], RecipeCheck]:
    """Registers a function ``(recipe, options) -> Iterator[Problem]``; see :class:`Rule`."""

    def register(check: RecipeCheck) -> RecipeCheck:
        _register(Rule(rule_id, severity, title, why, source, check_recipe=check))
        return check

    return register


def holds(releases: str, release: str) -> bool:
    """Whether ``release`` (``25.09``) is among ``releases`` (``all``, ``>=24.11``, ``<24.11``, ``>=24.01,<25.03``)."""
    return all(_holds(part.strip(), release) for part in releases.split(","))


def _holds(part: str, release: str) -> bool:
    if part in {"", ALL_RELEASES}:
        return True
    if part.startswith(">="):
        return release >= part[2:]
    if part.startswith("<"):
        return release < part[1:]
    raise InternalError(f"releases {part!r}; allowed: 'all', '>=YY.MM', '<YY.MM'")


def _register(rule: Rule) -> None:
    if rule.id in RULES or rule.severity not in SEVERITIES:
        raise InternalError(f"rule {rule.id}: registered twice, or of the unknown class {rule.severity!r}")
    if rule.severity == LOAD_ERROR and not rule.source:
        raise InternalError(f"rule {rule.id}: a load-error needs its source")
    RULES[rule.id] = rule
