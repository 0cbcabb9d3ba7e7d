"""What the rules about SageMaker share: its environment, and which models it loads."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from builder.lint.backend import ENSEMBLE
from builder.lint.graphs import backend
from builder.lint.model import MODEL
from builder.tools import sagemaker_checks, sagemaker_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.lint.model import Model, World

SINGLE: Final = sagemaker_checks.SINGLE
MULTI: Final = sagemaker_checks.MULTI
HOSTS: Final = (SINGLE, MULTI)

PREFIX: Final = sagemaker_environment.PREFIX
DEFAULT_MODEL: Final = sagemaker_environment.DEFAULT_MODEL
ARGUMENTS: Final = sagemaker_environment.ARGUMENTS

ENVIRONMENT: Final = "environment"
"""What findings about the environment have for a path."""

SERVE: Final = "server docker/sagemaker/serve"
"""The script that SageMaker runs, of github.com/triton-inference-server/server at e1db8a6."""

FRONT_END: Final = "server src/sagemaker_server.cc"


def environment(world: World) -> Mapping[str, str]:
    """The container's variables, as far as they are known."""
    return dict(world.options.environment)


def arguments(world: World) -> tuple[str, ...]:
    """The words that ``serve`` makes of the additional arguments: split at blanks, quotes mean nothing."""
    return tuple(environment(world).get(ARGUMENTS, "").split())


def values_of(world: World, option: str) -> tuple[str, ...]:
    """The values of ``--option=value`` and ``--option value`` among the additional arguments."""
    words = arguments(world)
    joined = [word.partition("=")[2] for word in words if word.startswith(f"{option}=")]
    apart = [after for word, after in pairwise(words) if word == option]
    return (*joined, *apart)


def top_folders(world: World) -> tuple[str, ...]:
    """The real folders at the root: SageMaker does not follow links there, and counts hidden ones."""
    entries = world.tree.entries
    return tuple(name for name in world.tree.children("") if world.tree.is_folder(name) and not entries[name].target)


def served(world: World) -> tuple[Model, ...]:
    """The models that SageMaker asks for by name: the default one, the only one, or the ensemble."""
    known: tuple[Model, ...] | None = world.memo.get("served")
    if known is None:
        known = world.memo["served"] = _served(world)
    return known


def _served(world: World) -> tuple[Model, ...]:
    models = list(world.models.values())
    chosen = environment(world).get(DEFAULT_MODEL, "")
    if world.options.host == SINGLE and chosen:
        return tuple(model for model in models if model.name == chosen)
    if world.layout == MODEL or len(models) == 1:
        return tuple(models)
    return tuple(model for model in models if model.config is not None and backend(model) == ENSEMBLE)


def steps(model: Model) -> tuple[str, ...]:
    """The names of an ensemble's composing models."""
    return tuple(step.model_name for step in model.config.ensemble_scheduling.step) if model.config else ()


def loaded(world: World) -> frozenset[str]:
    """The names of the models that SageMaker loads: what it serves, and what that is composed of."""
    known: frozenset[str] | None = world.memo.get("loaded")
    if known is None:
        known = world.memo["loaded"] = frozenset(closure(world, tuple(model.name for model in served(world))))
    return known


def composing(world: World) -> frozenset[str]:
    """The names of all models that are steps of an ensemble."""
    known: frozenset[str] | None = world.memo.get("composing")
    if known is None:
        names = (name for model in world.models.values() for name in steps(model))
        known = world.memo["composing"] = frozenset(names)
    return known


def closure(world: World, roots: tuple[str, ...]) -> tuple[str, ...]:
    """The models that are loaded with ``roots``: themselves, and the composing models of ensembles among them."""
    found: dict[str, None] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = None
            if name in world.models:
                waiting += steps(world.models[name])
    return tuple(found)
