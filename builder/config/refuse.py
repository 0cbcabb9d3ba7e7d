"""Problems of a ModelConfig → one error that names where the recipe says it."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from builder.errors import RecipeError, UserError
from builder.recipe.document import Problem as Written
from builder.recipe.document import dotted, find, place_of, refuse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.config.host import Keys, Problem
    from builder.recipe.document import Node


def refuse_all(problems: Iterable[Problem], root: Node | None, section: Keys, *, variant: str = "") -> None:
    """Refuses a config that has problems.

    Args:
        problems: what is wrong, by its path in the ModelConfig.
        root: the recipe as written; None: places are not known.
        section: where the recipe's ``serving`` section stands.
        variant: the name of the config among ``configs``; empty: it is the model's ``config.pbtxt``.

    Raises:
        RecipeError: there is a problem; one line for each, with its place.
        UserError: the same, without places.
    """
    found = list(problems)
    if not found:
        return
    if root is None:
        raise UserError("\n".join(f"{dotted((*section, *path))}: {message}" for path, message in found))
    lines = [(_written(root, section, path, variant), message) for path, message in found]
    raise refuse(Written(place_of(root, path), message, path) for path, message in lines)


@contextmanager
def placed(root: Node) -> Iterator[None]:
    """Puts the place in the recipe before each problem of a pipeline that is found while the block runs.

    Raises:
        RecipeError: the same, with places.
    """
    try:
        yield
    except RecipeError as error:
        lines = [(_path(line), line) for line in error.message.splitlines()]
        found = refuse(Written(place_of(root, path), line, path) for path, line in lines)
        raise RecipeError(found.message, mend=error.mend) from error


_NAMED: Final = re.compile(r"(?:pipeline '[^']*': )?(?:step '(?P<step>[^']*)'(?: input '(?P<input>[^']*)')?|output)")


def _path(line: str) -> Keys:
    """Where a recipe says what a problem of its pipeline is about."""
    match = _NAMED.match(line)
    if match is None:
        return ("pipeline",)
    if match["step"] is None:
        return ("pipeline", "outputs")
    below = ("inputs", re.sub(r"_\d+$", "", match["input"])) if match["input"] else ()
    return ("pipeline", "steps", match["step"], *below)


def refused(root: Node, path: Keys, message: str) -> RecipeError:
    """The error for what a recipe says at a path."""
    return refuse([Written(place_of(root, path), message, path)])


def _written(root: Node, section: Keys, path: Keys, variant: str) -> Keys:
    """Where a recipe says what a config holds at a path: in the raw fields, which win, or in the section itself."""
    raw = [(*section, "configs", variant)] if variant else []
    places = [(*base, *path) for base in (*raw, (*section, "config"), section)]
    return max(places, key=lambda place: _matched(root, place) - (len(place) - len(path)))


def _matched(root: Node, path: Keys) -> int:
    """How many parts of a path are written."""
    return next((length for length in range(len(path), 0, -1) if find(root, path[:length]) is not None), 0)
