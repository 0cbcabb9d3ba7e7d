"""THE ORDER of the stages for a recipe of several models: each is exported as if it were alone, then they meet.

    each model ─ source … warmup ─┐
    each model ─ source … warmup ─┼─ expected ─ config ─ package ─ pack ─ measure ─ judge
    the recipe's steps ───────────┘

Beside :mod:`builder.pipeline`, whose nodes it takes; imported for such recipes alone. The steps are checked when the
nodes are made, so before anything runs, and again when the models' tensors are known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.artifacts import ModelParts
from builder.config import ConfigureInputs
from builder.config.composition import ComposeInputs, compose_pipeline
from builder.config.declared import declared_dag
from builder.config.planned import plan_of
from builder.core.graph import Node
from builder.export.expected import Expect, ExpectedInputs
from builder.package import Pack, describe_composed, describe_model, gates
from builder.package.composition import CompositionInputs, Packed, package_composition
from builder.package.own import own_steps
from builder.pipeline import SHARED, Surroundings, export_nodes, exported, format_of, proof_of, selected_targets
from builder.recipe.tasks import REQUIRED, TASKS
from builder.verify import Judge, Measure, load_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.artifacts import ImageFiles, Reference, TokenizerFiles, Tree
    from builder.core.graph import Values
    from builder.package import Manifest
    from builder.recipe.composed import Composed, Model

_FRONTS: Final = ("tokenizer", "processor")
"""Stages of a model, of which it has one: what turns a request into its inputs."""

_OF_A_TARGET: Final = ("config", "package", "pack", "measure", "judge")


def node_id(recipe: Composed, target: str, stage: str, form: str = "") -> str:
    """``recipe/source/model/target/format/stage``."""
    kind = format_of(recipe, target, stage, form)
    return f"{recipe.name}/models/pipeline/{target}/{kind}/{stage}"


def nodes(recipe: Composed, targets: Sequence[str], surroundings: Surroundings, *, verify: bool = True) -> list[Node]:
    """Every stage of a recipe, each after those that it needs.

    Raises:
        UserError: the pipeline does not fit together, as far as the recipe tells; or the recipe names a target, a
            Triton release, a field or a file that does not exist.
    """
    made = [node for name in recipe.models for node in export_nodes(recipe.single(name), surroundings)]
    made += _shared(recipe, surroundings)
    for target in selected_targets(recipe, targets):
        made += _target(recipe.for_target(target), target, surroundings, verify=verify)
    return made


def needs(recipe: Composed, target: str, form: str, *, verify: bool) -> dict[str, str]:
    """What the delivery of a target's archive in a format waits for: ``<model>.<stage>`` and ``<stage>`` → node id."""
    of_target = [stage for stage in _OF_A_TARGET if verify or stage not in {"measure", "judge"}]
    expected = {"expected": node_id(recipe, SHARED, "expected")}
    return _of_models(recipe) | expected | {stage: node_id(recipe, target, stage, form) for stage in of_target}


def described(recipe: Composed, target: str, made: Values) -> tuple[Manifest, Reference]:
    """The manifest of an archive that nobody has verified yet, and what it is to be compared with."""
    reference: Reference = made["expected"]
    parts = {name: of_model(made, name) for name in recipe.models}
    models = {
        name: describe_model(recipe.models[name].task, part["source"], part["check"], _front(part))
        for name, part in parts.items()
    }
    packed = {"repository": made["package"], "archive": made["pack"]}
    return describe_composed(recipe, target, models, reference=reference, **packed), reference


def _of_models(recipe: Composed, *stages: str) -> dict[str, str]:
    """``<model>.<stage>`` → node id: of all stages of all models, or of those that are named."""
    return {
        f"{name}.{stage}": node
        for name in recipe.models
        for stage, node in exported(recipe.single(name)).items()
        if not stages or stage in stages
    }


def of_model(made: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What the stages of one model made, by stage."""
    start = f"{name}."
    return {stage.removeprefix(start): value for stage, value in made.items() if stage.startswith(start)}


def _front(part: Mapping[str, Any]) -> TokenizerFiles | ImageFiles:
    """What turns a request into the model's inputs."""
    front: TokenizerFiles | ImageFiles = next(part[stage] for stage in _FRONTS if stage in part)
    return front


def _parts(model: Model, made: Mapping[str, Any]) -> ModelParts:
    """What the reference answers with."""
    tokenizer: TokenizerFiles | None = made.get("tokenizer")
    truncation = {"truncation": tokenizer.truncation} if tokenizer else {}
    return ModelParts(model.task, made["source"], tokenizer, model.inputs.text_pair, **truncation)


def _shared(recipe: Composed, surroundings: Surroundings) -> list[Node]:
    """What is done for all targets: what the whole should answer."""
    plan = plan_of(recipe, declared_dag(recipe))
    questions = any(TASKS[model.task].pairs == REQUIRED for model in recipe.models.values())
    samples = load_rows(recipe.verify.samples, plan.inputs, questions=questions)
    own = own_steps(recipe, surroundings.cache)

    def expected(made: Values) -> tuple[Any, Any]:
        models = {name: _parts(model, of_model(made, name)) for name, model in recipe.models.items()}
        files = made["own"].files if own else {}
        steps: dict[str, Tree] = {
            name: {path.removeprefix(f"{name}/"): file for path, file in files.items() if path.startswith(f"{name}/")}
            for name in (own.steps if own else ())
        }
        return Expect(plan), ExpectedInputs(models, steps, samples)

    needs = _of_models(recipe, "source", *_FRONTS)
    node = node_id(recipe, SHARED, "own")
    made = [Node(node, {}, lambda _: (own, None))] if own else []
    return [*made, Node(node_id(recipe, SHARED, "expected"), needs | ({"own": node} if own else {}), expected)]


def _target(recipe: Composed, target: str, surroundings: Surroundings, *, verify: bool) -> list[Node]:
    """What is done for each target."""
    config, layout = compose_pipeline(recipe, target), package_composition(recipe, target, surroundings.cache)

    def configured(made: Values) -> tuple[Any, Any]:
        parts = {name: of_model(made, name) for name in recipe.models}
        models = {
            name: ConfigureInputs(part["check"], _front(part), part.get("warmup"), part["reference"].labels)
            for name, part in parts.items()
        }
        return config, ComposeInputs(models)

    def packaged(made: Values) -> tuple[Any, Any]:
        parts = {name: of_model(made, name) for name in recipe.models}
        models = {
            name: Packed(part["source"], part["check"], _front(part), part["reference"].labels)
            for name, part in parts.items()
        }
        return layout, CompositionInputs(made["config"], models)

    read = _of_models(recipe, "source", "check", *_FRONTS, "reference")
    config_id, package_id = (node_id(recipe, target, stage) for stage in ("config", "package"))
    made = [
        Node(config_id, read | _of_models(recipe, "warmup"), configured),
        Node(package_id, read | {"config": config_id}, packaged),
    ]
    for form in recipe.package.formats:
        made += _packing(recipe, target, form, surroundings, verify=verify)
    return made


def _packing(recipe: Composed, target: str, form: str, surroundings: Surroundings, *, verify: bool) -> list[Node]:
    """What is done for each format of a target."""

    def node(stage: str, prepare: Any, needs: Mapping[str, str]) -> Node:  # noqa: ANN401 - as Node has it
        return Node(here[stage], needs, prepare)

    def measured(made: Values) -> tuple[Any, Any]:
        asked = recipe.verify.sweep.concurrency
        return Measure(surroundings.cache, asked), proof_of(recipe, target, made, made["expected"])

    def judged(made: Values) -> tuple[Any, Any]:
        held = gates(recipe, target, made["expected"].metric)
        return Judge(held.tolerances, held.constraints), made["measure"]

    here = {stage: node_id(recipe, target, stage, form) for stage in _OF_A_TARGET}
    expected = {"expected": node_id(recipe, SHARED, "expected")}
    made = [node("pack", lambda made: (Pack(target, form), made["package"]), {"package": here["package"]})]
    if verify:
        made.append(node("measure", measured, expected | {stage: here[stage] for stage in ("pack", "package")}))
        made.append(node("judge", judged, expected | {"measure": here["measure"]}))
    return made
