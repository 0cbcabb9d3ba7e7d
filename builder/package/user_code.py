"""The user's own file as a step: what can be said of it without running it."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from builder.errors import RecipeError
from builder.package.user_downloads import downloads

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from builder.recipe.steps import PythonStep

OURS: Final = ("model.py", "tritonsmith_step.py", "settings.json")

_MEND: Final = (
    "a served archive has all that it needs: bring the files in a package that is named under requirements, "
    "or in a packed environment"
)


def check_user_file(path: Path, step: PythonStep) -> None:
    """Checks a file: its syntax, that it has what is called, and that it fetches nothing when it is loaded.

    Raises:
        RecipeError: all that is wrong with it, each with its line.
    """
    if path.name in OURS or path.suffix != ".py":
        raise RecipeError(f"{path}: must be a .py file with a name other than {', '.join(OURS)}")
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        raise RecipeError(f"{path}:{error.lineno or 1}: {error.msg}") from error
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # a NUL in it
        raise RecipeError(f"{path}:1: {error}") from error
    fetched = [*downloads(tree)]
    found = [*_entry(tree, step), *fetched]
    if found:
        lines = "\n".join(f"{path}:{line}: {words}" for line, words in sorted(found))
        raise RecipeError(lines, mend=_MEND if fetched else "")


def _entry(tree: ast.Module, step: PythonStep) -> Iterator[tuple[int, str]]:
    """What is wrong with the function or class that is called."""
    named = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    called: ast.AST | None = named.get("Step") or named.get("run")
    if isinstance(called, ast.ClassDef):
        methods = {node.name: node for node in called.body if isinstance(node, ast.FunctionDef)}
        called = methods.get("__call__")
        if called is None:
            if not named["Step"].bases:  # type: ignore[union-attr]
                yield named["Step"].lineno, "class Step has no method __call__"
            return
    if isinstance(called, ast.FunctionDef):
        yield from _arguments(called, step.takes)
    elif not _bound(tree) & {"Step", "run"}:
        yield 1, "has neither a function run() nor a class Step"


def _arguments(function: ast.FunctionDef, takes: Collection[str]) -> Iterator[tuple[int, str]]:
    """That a function takes the tensors that the recipe gives it, by name."""
    given = function.args
    plain = [argument.arg for argument in (*given.args, *given.kwonlyargs) if argument.arg != "self"]
    needed = plain[: len(plain) - len(given.defaults) - sum(one is not None for one in given.kw_defaults)]
    missing = [name for name in takes if name not in plain and not given.kwarg]
    more = [name for name in needed if name not in takes]
    if missing or more:
        yield (
            function.lineno,
            f"{function.name}() takes {', '.join(plain) or 'nothing'}; the recipe's takes are {', '.join(takes)}",
        )


def _bound(tree: ast.Module) -> set[str]:
    """Names that the module has by import or assignment."""
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assigned = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return imported | assigned
