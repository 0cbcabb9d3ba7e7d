"""A checked pipeline as plain data, for who answers it without Triton: the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.artifacts import PipelinePlan, RequestTensor, StepPlan
from builder.recipe import steps as kinds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import Json
    from builder.config.dag import Dag
    from builder.recipe.composed import Composed
    from builder.recipe.steps import AnyStep


def plan_of(recipe: Composed, dag: Dag) -> PipelinePlan:
    """What each step does, with what, and where its inputs come from."""
    steps = []
    for step in dag.steps:
        section = recipe.pipeline.steps[step.name]
        inputs = {edge.taken.name: f"{edge.source}.{edge.given.name}" for edge in dag.edges_into(step.name)}
        steps.append(StepPlan(step.name, section.kind, _options(section), inputs))
    sent = tuple(RequestTensor(port.name, port.dtype, port.dims, port.optional) for port in dag.inputs)
    return PipelinePlan(tuple(steps), sent, {name: f"{step}.{port.name}" for name, (step, port) in dag.outputs.items()})


def _options(section: AnyStep) -> dict[str, Json]:
    """What a step is told, as :class:`~builder.artifacts.StepPlan` says."""
    match section:
        case kinds.AggregateStep(aggregate=mode):
            return {"mode": mode}
        case kinds.SelectStep(select=select):
            by = select.by.partition(".")[2]
            return {"by": by, "cases": dict(select.cases), "default": select.default}
        case kinds.PythonStep():
            tensors = {name: _tensors(getattr(section, name)) for name in ("takes", "gives")}
            return {"file": section.python.name, **tensors, "parameters": dict(section.parameters)}
        case kinds.LabelsStep(labels=model, top_k=count):
            return {"model": model, "top_k": count}
        case kinds.SpansStep(spans=model, max_answer_length=longest):
            return {"model": model, "max_answer_length": longest}
        case kinds.EntitiesStep(entities=model, aggregation_strategy=strategy):
            return {"model": model, "aggregation_strategy": strategy}
    return {"model": getattr(section, section.kind)}


def _tensors(specs: Mapping[str, kinds.TensorSpec]) -> dict[str, Json]:
    return {name: {"dtype": spec.dtype, "dims": list(spec.dims)} for name, spec in specs.items()}
