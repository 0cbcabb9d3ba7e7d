"""What can be read in a ``model.py`` without running it."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from builder.lint.completion import Body

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from builder.lint.tree import Tree

CLASS: Final = "TritonPythonModel"
COMPLETE: Final = "auto_complete_config"
_LIMIT: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Completion:
    """What ``auto_complete_config`` does.

    Args:
        line: where it is defined.
        arguments: whether it can be called with one argument.
        returns: whether it can return a config.
        body: what it does; None where it is not called as other completions are.
    """

    line: int
    arguments: bool
    returns: bool
    body: Body | None


@dataclass(frozen=True, slots=True)
class Source:
    """A module.

    Args:
        error: why Python cannot compile it, with the line; None where it can.
        has_model: whether it binds ``TritonPythonModel``; None where that cannot be told.
        has_execute: whether that class has ``execute``; None where that cannot be told.
        completion: its ``auto_complete_config``; None where it has none.
        is_open: whether the class may inherit what is not seen here.
    """

    error: tuple[str, int | None] | None = None
    has_model: bool | None = True
    has_execute: bool | None = None
    completion: Completion | None = None
    is_open: bool = field(default=False)


def read(tree: Tree, path: str, python: tuple[int, int]) -> Source:
    """Reads a module.

    Args:
        tree: the files.
        path: the module's.
        python: the minor version of the interpreter that will import it.
    """
    text = tree.head(path, _LIMIT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(text, path, feature_version=python)
            compile(module, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        return Source((error.msg, error.lineno))
    except (ValueError, RecursionError) as error:
        return Source((str(error), None))
    return _describe(module)


def _describe(module: ast.Module) -> Source:
    statements = list(_statements(module.body))
    classes = [one for one in statements if isinstance(one, ast.ClassDef) and one.name == CLASS]
    if not classes:
        bound = any(CLASS in _binds(one) for one in statements)
        opaque = any("*" in _binds(one) for one in statements) or "globals" in _names(module)
        is_open = not _is_function(module, statements)
        return Source(has_model=True if bound else None if opaque else False, is_open=is_open)
    model = classes[-1]
    is_open = bool(model.decorator_list or model.keywords) or any(ast.unparse(base) != "object" for base in model.bases)
    inner = list(_statements(model.body))
    bound_inside = {name for one in inner for name in _binds(one)}
    functions = [one for one in inner if isinstance(one, ast.FunctionDef) and one.name == COMPLETE]
    completion = _completion(functions[-1], statements) if functions else None
    if completion is None and COMPLETE in bound_inside:
        is_open = True
    has_execute = True if "execute" in bound_inside else None if is_open else False
    return Source(has_execute=has_execute, completion=completion, is_open=is_open)


def _is_function(module: ast.Module, statements: Sequence[ast.stmt]) -> bool:
    """Whether the class is a function, and nobody gives that an ``auto_complete_config``: then it has none."""
    attributes = {node.attr for node in ast.walk(module) if isinstance(node, ast.Attribute)}
    by = [one for one in statements if CLASS in _binds(one)]
    plain = [one for one in by if isinstance(one, ast.FunctionDef) and not one.decorator_list]
    unseen = COMPLETE in attributes or "setattr" in _names(module) or any("*" in _binds(one) for one in statements)
    return bool(by) and plain == by and not unseen


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of one scope, through ``if``, ``try``, ``with`` and loops."""
    for one in body:
        yield one
        if isinstance(one, ast.If | ast.Try | ast.With | ast.For | ast.While):
            for part in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(one, part, []))
            for handler in getattr(one, "handlers", []):
                yield from _statements(handler.body)


def _binds(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in statement.names}
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        names = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
        return {name.id for name in names if isinstance(name.ctx, ast.Store)}
    return set()


def _names(module: ast.Module) -> set[str]:
    return {node.id for node in ast.walk(module) if isinstance(node, ast.Name)}


def _completion(function: ast.FunctionDef, module: Sequence[ast.stmt]) -> Completion:
    decorators = [ast.unparse(one) for one in function.decorator_list]
    arguments = [*function.args.posonlyargs, *function.args.args]
    if decorators == ["classmethod"]:
        arguments = arguments[1:]
    required = len(arguments) - len(function.args.defaults)
    fits = required <= 1 and (bool(arguments) or function.args.vararg is not None)
    known = decorators in ([], ["staticmethod"], ["classmethod"])
    returns = any(_may_be_config(node) for node in ast.walk(function))
    constants, others = _constants(module)
    body = Body(function.body, arguments[0].arg, constants, others) if known and arguments else None
    return Completion(function.lineno, fits or not known, returns, body)


def _constants(module: Sequence[ast.stmt]) -> tuple[dict[str, Any], frozenset[str]]:
    """The names of a module that are bound once, to what cannot change; and its other names."""
    bound = [name for one in module for name in _binds(one)]
    rebound = {name for one in module for node in ast.walk(one) if isinstance(node, ast.Global) for name in node.names}
    constants = {
        one.targets[0].id: one.value.value
        for one in module
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name) and isinstance(one.value, ast.Constant)
    }
    known = {name: value for name, value in constants.items() if bound.count(name) == 1 and name not in rebound}
    return known, frozenset(bound) - known.keys()


def _may_be_config(node: ast.AST) -> bool:
    """Whether a node may make the function give a ``ModelConfig`` back."""
    if not isinstance(node, ast.Return) or node.value is None:
        return False
    is_data = isinstance(node.value, ast.Constant | ast.Dict | ast.List | ast.Tuple)
    return not is_data and not ast.unparse(node.value).endswith(".as_dict()")
