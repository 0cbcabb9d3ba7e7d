"""What an ensemble and the models that it is made of must agree on.

Source: ``src/ensemble_scheduler/ensemble_utils.cc`` of triton-inference-server/core (73aad7c).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.artifacts import Json


def check_ensemble(ensemble: Mapping[str, Json], models: Mapping[str, Mapping[str, Json]]) -> None:
    """Checks an ensemble against the models that it is made of, as Triton does when it loads it.

    Args:
        ensemble: its config.
        models: the configs of the models, by name.

    Raises:
        InternalError: Triton would refuse it: the build makes ensembles, so it is a bug.
    """
    for problem in _ensemble_problems(ensemble, models):
        raise InternalError(f"{ensemble['name']}: {problem}")


def _ensemble_problems(ensemble: Mapping[str, Json], models: Mapping[str, Mapping[str, Json]]) -> Iterator[str]:
    if ensemble.get("platform") != "ensemble" or "backend" in ensemble:
        yield "the platform must be 'ensemble', without a backend"
    for field in ("instance_group", "optimization", "model_warmup"):
        if field in ensemble:
            yield f"{field} is not for ensembles"
    known = {tensor["name"]: tensor for tensor in ensemble["input"]}  # name → who makes it, as a tensor
    used: set[str] = set()
    for step in ensemble["ensemble_scheduling"]["step"]:
        model = models.get(step["model_name"])
        if model is None:
            yield f"step {step['model_name']!r} is no model of the repository"
            return
        yield from _step_problems(step, model, ensemble["max_batch_size"], known)
        used |= set(step["input_map"].values())
    yield from _loose_ends(ensemble, known, used)


def _step_problems(
    step: Mapping[str, Json], model: Mapping[str, Json], batch: int, known: dict[str, Mapping[str, Json]]
) -> Iterator[str]:
    name = step["model_name"]
    if step.get("model_version") != -1:
        yield f"step {name!r} needs model_version -1"
    if model["max_batch_size"] < batch:
        yield f"allows a batch of {batch}, but {name!r} only of {model['max_batch_size']}"
    inputs = {tensor["name"]: tensor for tensor in model["input"]}
    outputs = {tensor["name"]: tensor for tensor in model["output"]}
    if set(step["input_map"]) != set(inputs):
        yield f"step {name!r} maps the inputs {sorted(step['input_map'])}; the model has {sorted(inputs)}"
    for inner, outer in step["input_map"].items():
        if outer not in known:
            yield f"step {name!r} takes {outer!r}, which nothing before it makes"
        elif inner in inputs and not _fit(known[outer], inputs[inner]):
            yield f"step {name!r}: {outer!r} does not fit its input {inner!r}"
    for inner, outer in step["output_map"].items():
        if inner not in outputs:
            yield f"step {name!r} has no output {inner!r}"
        elif outer in known:
            yield f"{outer!r} is made twice"
        else:
            known[outer] = outputs[inner]


def _loose_ends(ensemble: Mapping[str, Json], known: Mapping[str, Mapping[str, Json]], used: set[str]) -> Iterator[str]:
    wanted = {tensor["name"]: tensor for tensor in ensemble["output"]}
    for name in known.keys() - used - wanted.keys():
        yield f"nothing uses {name!r}"
    for name, tensor in wanted.items():
        if name not in known:
            yield f"no step makes the output {name!r}"
        elif not _fit(known[name], tensor):
            yield f"the output {name!r} is not what its step makes"


def _fit(made: Mapping[str, Json], taken: Mapping[str, Json]) -> bool:
    same = made["data_type"] == taken["data_type"] and len(made["dims"]) == len(taken["dims"])
    return same and all(a == b or -1 in {a, b} for a, b in zip(made["dims"], taken["dims"], strict=True))
