"""What ``auto_complete_config`` does, as far as that can be told without running it.

A small part of Python is followed: names, literals, ``dict(…)``, f-strings, ``for`` over what is known, ``if`` on what
is known, calls of the config's methods. Whatever else could touch the config ends the reading: then nothing is said.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Value: TypeAlias = Any
"""A value of the function that is read."""

_ROUNDS: Final = 10_000  # of loops, all together


class UnknownError(Exception):
    """It cannot be told without running it."""


@dataclass(frozen=True, slots=True)
class Call:
    """``config.add_input({...})``: the method, its one argument (None for none), the line."""

    method: str
    argument: Any
    line: int


class _Seen(dict[str, Any]):
    """Part of what ``config.as_dict()`` gives: only what is in it is known."""


class _SeenList(list[Any]):
    """The inputs or outputs in it."""


_CONFIG: Final = object()
_UNKNOWN: Final = object()


@dataclass(frozen=True, slots=True)
class Body:
    """What there is to follow.

    Args:
        statements: of the function.
        argument: its name for the config.
        constants: names of the module with values that cannot change.
        others: all other names of the module; ``*`` where there may be any.
    """

    statements: Sequence[ast.stmt]
    argument: str
    constants: Mapping[str, Any]
    others: frozenset[str]


def follow(body: Body, config: Any, apply: Callable[[Call], bool]) -> bool:  # noqa: ANN401 - a protobuf message
    """Follows a function that completes a config.

    Args:
        body: what it does.
        config: the ModelConfig message that ``apply`` changes.
        apply: does a call to the config; returns whether the function goes on after it.

    Returns:
        whether it gives the config back, or a call ended it; False where it gives back nothing.

    Raises:
        UnknownError: it cannot be told.
    """
    names = {**dict.fromkeys(body.others, _UNKNOWN), **body.constants, body.argument: _CONFIG}
    try:
        return _Reader(config, apply, names).run(body.statements)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UnknownError from error


@dataclass
class _Reader:
    config: Any
    apply: Callable[[Call], bool]
    names: dict[str, Any]
    given: list[Any] = field(default_factory=list)  # what the config holds by now: to change it is to change the config
    rounds: int = 0

    def run(self, body: Sequence[ast.stmt]) -> bool:
        """Runs statements; whether the function ended in them."""
        return any(self._statement(one) for one in body)

    def _statement(self, one: ast.stmt) -> bool:
        match one:
            case ast.Pass() | ast.Expr(ast.Constant()):
                return False
            case ast.Import(names) | ast.ImportFrom(names=names):
                self.names |= {(alias.asname or alias.name).partition(".")[0]: _UNKNOWN for alias in names}
                return False
            case ast.Return(ast.expr() as value) if self.value(value) is _CONFIG:
                return True
            case ast.Expr(ast.Call() as call):
                return not self._is_apart(call) and self._call(call)
            case ast.Assign([target], value) | ast.AnnAssign(target, value=ast.expr() as value):
                self._assign(target, value)
                return False
            case ast.For(ast.Name(name), over, inner, []):
                return self._loop(name, over, inner)
            case ast.If(test, inner, orelse):
                return self.run(inner if self._decided(test) else orelse)
        raise UnknownError

    def _loop(self, name: str, over: ast.expr, inner: Sequence[ast.stmt]) -> bool:
        for item in self._items(over):
            self.names[name] = item
            if self.run(inner):
                return True
        return False

    def _items(self, over: ast.expr) -> tuple[Any, ...]:
        items = self.value(over)
        if not isinstance(items, list | tuple | range):
            raise UnknownError
        self.rounds += len(items)
        if self.rounds > _ROUNDS:
            raise UnknownError
        return tuple(items)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        match target:
            case ast.Name(name):
                try:
                    self.names[name] = self.value(value)
                except UnknownError:
                    if not self._is_apart(value):
                        raise
                    self.names[name] = _UNKNOWN
            case ast.Subscript(owner, key):
                holder, item = self._own(self.value(owner)), self._plain(self.value(value))
                holder[self.value(key)] = item
            case _:
                raise UnknownError

    def _is_apart(self, value: ast.expr) -> bool:
        """Whether an unknown expression can touch nothing that is followed here."""
        nodes = list(ast.walk(value))
        named = [self.names.get(node.id) for node in nodes if isinstance(node, ast.Name)]
        return not any(one is _CONFIG or isinstance(one, list | dict) for one in named) and not any(
            isinstance(node, ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom | ast.Lambda) for node in nodes
        )

    def _call(self, call: ast.Call) -> bool:
        match call:
            case ast.Call(ast.Attribute(owner, "append"), [item], []) if self.value(owner) is not _CONFIG:
                holder = self._own(self.value(owner))
                holder.append(self._plain(self.value(item)))
                return False
            case ast.Call(ast.Attribute(owner, method), arguments, []) if self.value(owner) is _CONFIG:
                if len(arguments) > 1:
                    raise UnknownError
                argument = self._plain(self.value(arguments[0])) if arguments else None
                self.names = {
                    name: _UNKNOWN if isinstance(value, _Seen | _SeenList) else value
                    for name, value in self.names.items()
                }
                self._give(argument)
                return not self.apply(Call(method, argument, call.lineno))
        raise UnknownError

    def _give(self, value: Value) -> None:
        if isinstance(value, list | dict):
            self.given.append(value)
            for item in value.values() if isinstance(value, dict) else value:
                self._give(item)

    def _own(self, holder: Value) -> Value:
        """A list or dict that may be changed."""
        if not isinstance(holder, list | dict) or isinstance(holder, _Seen | _SeenList):
            raise UnknownError
        if any(holder is one for one in self.given):
            raise UnknownError
        return holder

    def _plain(self, value: Value) -> Value:
        if isinstance(value, _Seen | _SeenList) or value is _CONFIG:
            raise UnknownError
        return value

    def value(self, node: ast.expr) -> Value:
        """The value of an expression."""
        match node:
            case ast.Constant(value):
                return value
            case ast.Name(name):
                return self._known(self.names.get(name, _UNKNOWN))
            case ast.List(items):
                return [self._plain(self.value(item)) for item in items]
            case ast.Tuple(items):
                return tuple(self._plain(self.value(item)) for item in items)
            case ast.Dict(keys, values):
                pairs = [(key or self._stop(), item) for key, item in zip(keys, values, strict=True)]
                return {self._plain(self.value(key)): self._plain(self.value(item)) for key, item in pairs}
            case ast.Subscript(owner, key):
                return self.value(owner)[self.value(key)]
            case ast.JoinedStr(parts):
                return "".join(self._text(part) for part in parts)
            case ast.ListComp(item, [ast.comprehension(ast.Name(name), over, tests, 0)]):
                return self._list(item, name, over, tests)
            case ast.Call():
                return self._called(node)
        return self._operation(node)

    def _known(self, value: Value) -> Value:
        return self._stop() if value is _UNKNOWN else value

    def _stop(self) -> Value:
        raise UnknownError

    def _text(self, part: ast.expr) -> str:
        match part:
            case ast.Constant(str() as text):
                return text
            case ast.FormattedValue(value, -1, None):
                found = self.value(value)
                return str(found) if isinstance(found, str | int) else self._stop()
        raise UnknownError

    def _list(self, item: ast.expr, name: str, over: ast.expr, tests: Sequence[ast.expr]) -> list[Any]:
        before, made = dict(self.names), []
        for one in self._items(over):
            self.names[name] = one
            if all(self.value(test) for test in tests):
                made.append(self._plain(self.value(item)))
        self.names = before
        return made

    def _called(self, node: ast.Call) -> Value:
        match node:
            case ast.Call(ast.Attribute(owner, "as_dict"), [], []) if self.value(owner) is _CONFIG:
                return self._as_dict()
            case ast.Call(ast.Name("dict"), [], pairs) if self._is_built_in("dict"):
                return {pair.arg or self._stop(): self._plain(self.value(pair.value)) for pair in pairs}
            case ast.Call(ast.Name("range"), [count], []) if self._is_built_in("range"):
                return range(self.value(count))
            case ast.Call(ast.Name("str"), [item], []) if self._is_built_in("str"):
                return self._text(ast.FormattedValue(item, -1, None))
        raise UnknownError

    def _is_built_in(self, name: str) -> bool:
        return name not in self.names and "*" not in self.names

    def _as_dict(self) -> _Seen:
        """What the function may look at: max_batch_size, and the names and dims of tensors."""
        seen = _Seen(max_batch_size=self.config.max_batch_size)
        for part in ("input", "output"):
            tensors = getattr(self.config, part)
            seen[part] = _SeenList(_Seen(name=one.name, dims=_SeenList(one.dims)) for one in tensors)
        return seen

    def _operation(self, node: ast.expr) -> Value:
        match node:
            case ast.UnaryOp(ast.USub(), ast.Constant(int() | float() as number)):
                return -number
            case ast.UnaryOp(ast.Not(), inner):
                return not self._decided(inner)
            case ast.BoolOp(operator, parts):
                decided = (self._decided(part) for part in parts)
                return all(decided) if isinstance(operator, ast.And) else any(decided)
            case ast.BinOp(left, ast.Add(), right):
                sides = self.value(left), self.value(right)
                return sides[0] + sides[1] if {type(side) for side in sides} in ({str}, {int}) else self._stop()
            case ast.Compare(left, [operator], [right]):
                return self._compared(self.value(left), operator, self.value(right))
        raise UnknownError

    def _decided(self, node: ast.expr) -> bool:
        found = self.value(node)
        return bool(found) if not isinstance(found, _Seen) and found is not _CONFIG else self._stop()

    def _compared(self, left: Value, operator: ast.cmpop, right: Value) -> bool:
        if isinstance(left, _Seen | _SeenList) or isinstance(right, _Seen) or _CONFIG in (left, right):
            raise UnknownError
        match operator:
            case ast.Eq():
                return bool(left == right)
            case ast.NotEq():
                return bool(left != right)
            case ast.In():
                return left in right
            case ast.NotIn():
                return left not in right
            case ast.Gt():
                return bool(left > right)
            case ast.Lt():
                return bool(left < right)
        raise UnknownError
