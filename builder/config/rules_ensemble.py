"""What an ensemble and the models that it is made of must agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import InternalError
from builder.tools import triton_ensemble, triton_proto
from builder.tools.triton_ensemble import Called

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.artifacts import Json
    from builder.tools.triton_ensemble import Message


def check_ensemble(ensemble: Mapping[str, Json], models: Mapping[str, Mapping[str, Json]], release: str) -> None:
    """Checks an ensemble against the models that it is made of, as Triton does when it loads it.

    Args:
        ensemble: its config.
        models: the configs of the models, by name.
        release: the Triton release.

    Raises:
        InternalError: Triton would refuse it: the build makes ensembles, so it is a bug.
    """
    config = triton_proto.build(ensemble, release=release)
    needed = {step["model_name"] for step in ensemble["ensemble_scheduling"]["step"]}
    known = {name: triton_proto.build(models[name], release=release) for name in sorted(needed & models.keys())}
    for problem in _problems(config, known):
        raise InternalError(f"{ensemble['name']}: {problem}")


def _problems(config: Message, models: Mapping[str, Message]) -> Iterator[str]:
    if config.platform != "ensemble" or config.backend:
        yield "the platform must be 'ensemble', without a backend"
    for refusal in (*triton_ensemble.incomplete(config), *triton_ensemble.not_for_ensembles(config)):
        yield refusal.message
    called = []
    for place, step in triton_ensemble.steps(config):
        if step.model_name not in models:
            yield f"step {step.model_name!r} is no model of the repository"
            return
        if step.model_version != -1:
            yield f"step {step.model_name!r} needs model_version -1"
        called.append(Called(place, step, models[step.model_name]))
    yield from (refusal.message for refusal in triton_ensemble.loose_ends(config))
    yield from (refusal.message for refusal in triton_ensemble.batches_that_do_not_fit(config, called))
    yield from (refusal.message for refusal in triton_ensemble.maps_that_do_not_fit(called))
    yield from (refusal.message for refusal in triton_ensemble.links_that_do_not_fit(config, called))
    decoupled = [bool(one.config.model_transaction_policy.decoupled) for one in called]
    yield from (refusal.message for refusal in triton_ensemble.streams_that_meet(config, decoupled))
