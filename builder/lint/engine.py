"""Runs the rules over a tree and makes findings of what they report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import ArchiveError, BombError
from builder.lint import rules  # noqa: F401 - registers them
from builder.lint.archive_tree import ArchiveTree
from builder.lint.finding import HOSTING_ERROR, LOAD_ERROR, Finding, Report
from builder.lint.model import survey
from builder.lint.rule import RULES, Problem, Rule, holds
from builder.lint.tree import FolderTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.lint.model import Model, World
    from builder.lint.options import Options
    from builder.lint.tree import Tree


def lint(path: Path, options: Options) -> Report:
    """Lints a recipe (``.yaml``), a model repository, a single model folder, an archive or a release folder.

    Raises:
        UserError: there is nothing at ``path`` that can be linted.
        MachineError: it cannot be read.
    """
    if path.suffix in {".yaml", ".yml"} and not path.is_dir():
        from builder.lint.recipe import lint_recipe

        return lint_recipe(path, options)
    if (path / "plan.json").is_file() and (path / "SHA256SUMS").is_file():
        from builder.lint.handoffs import lint_release

        return lint_release(path)
    try:
        tree = open_tree(path)
    except BombError as error:
        # Nobody reads on to see what else is wrong.
        return Report((Finding(error.rule, HOSTING_ERROR, ".", None, error.message, error.mend, ""),), 0)
    return check(survey(tree, options))


def open_tree(path: Path) -> Tree:
    """The files at a path."""
    if path.is_dir():
        return FolderTree(path)
    if path.is_file():
        return ArchiveTree(path)
    raise ArchiveError(
        f"{path}: there is nothing to lint", mend="name a recipe, a model repository, a model folder or an archive"
    )


def check(world: World) -> Report:
    """Runs all rules that hold for the options' release and host."""
    found = {finding for rule in RULES.values() if _applies(rule, world) for finding in _run(rule, world)}
    order = sorted(found, key=lambda one: (one.path, one.line or 0, one.rule, one.message))
    return Report(tuple(order), len(world.models))


def _applies(rule: Rule, world: World) -> bool:
    return not rule.hosts or world.options.host in rule.hosts


def _run(rule: Rule, world: World) -> Iterator[Finding]:
    if rule.check_repository is not None:
        for problem in rule.check_repository(world):
            yield from _finding(rule, problem, None, world)
    if rule.check_model is not None:
        for model in world.models.values():
            for problem in rule.check_model(model, world):
                yield from _finding(rule, problem, model, world)


def _finding(rule: Rule, problem: Problem, model: Model | None, world: World) -> Iterator[Finding]:
    releases = problem.releases or rule.releases
    if not holds(releases, world.options.release):
        return
    path, line = problem.path, problem.line
    if path is None:
        path = model.where if model else "."
        if model and line is None and model.config_path:
            line = model.line_of(problem.field)
    shown = releases if rule.severity == LOAD_ERROR else ""
    yield Finding(rule.id, rule.severity, path, line, problem.message, problem.mend, shown)
