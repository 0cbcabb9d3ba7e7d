"""The environment of SageMaker's container, against the script that starts the server.

What is asked of variables alone is in :mod:`builder.tools.sagemaker_checks`, which hand-offs ask, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.lint.rule import Problem, repository_rule
from builder.lint.rules.hosts import DEFAULT_MODEL, ENVIRONMENT, MULTI, environment
from builder.tools import sagemaker_checks

if TYPE_CHECKING:
    from builder.lint.model import World
    from builder.lint.rule import Problems, RepositoryCheck

_OF_FOLDERS: Final = "H6"


def _default_model(world: World) -> Problems:
    """Where none is named, A3 says whether one is needed."""
    name = environment(world).get(DEFAULT_MODEL, "")
    if name and not world.tree.is_folder(name):
        there = ", ".join(world.models) or "none"
        yield Problem(
            f"{DEFAULT_MODEL} is {name!r}, but there is no such folder; there are: {there}",
            "name one of them",
            path=ENVIRONMENT,
        )


def _asks(rule_id: str) -> RepositoryCheck:
    def check(world: World) -> Problems:
        options = world.options
        found = sagemaker_checks.check(environment(world), multi=options.host == MULTI, release=options.release)
        for one in found:
            if one.rule == rule_id:
                yield Problem(one.message, one.mend, path=ENVIRONMENT)

    return check


for _one in sagemaker_checks.RULES:
    _check = _default_model if _one.id == _OF_FOLDERS else _asks(_one.id)
    repository_rule(_one.id, _one.severity, _one.title, why=_one.why, source=_one.source, hosts=_one.hosts)(_check)
