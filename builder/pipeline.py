"""THE ORDER of the stages: read this first.

    recipe ─ source ─ tokenizer ─ trace ─ bind ─ reference ─ check ─ warmup
    and for each target ─ [optimise ─ [engine]] ─ config ─ package ─ pack ─ measure ─ judge

``optimise`` is there where a target asks for more than what the author published: another precision, or an engine;
``engine`` where it runs a plan, compiled for its GPUs. What these are told is made in :mod:`builder.targeting`.

Of a recipe with several models, each goes the way up to ``warmup``; what follows is in :mod:`builder.composition`.

A stage gets its predecessors' artifacts, never their modules. Here, and only here, one artifact is handed to the next
stage: each node says which outputs it needs, and what it makes of them. What a stage does is told by its own docstring;
what flows, by :mod:`builder.artifacts`; who runs the nodes, by :mod:`builder.core.graph`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from builder import targeting
from builder.config import ConfigureInputs, configure, warm_up
from builder.core.graph import Node
from builder.errors import RecipeError
from builder.export.bind import Bind
from builder.export.check import Check
from builder.export.processor import Processor
from builder.export.reference import Refer
from builder.export.reference_images import ReferImages
from builder.export.source import Resolve
from builder.export.tokenizer import Tokenizer
from builder.export.trace import Trace
from builder.package import Pack, PackageInputs, describe, gates, only_python, package
from builder.package.formats import arrange
from builder.recipe.tasks import IMAGE, NEIGHBOURS, REQUIRED, TASKS
from builder.targeting import SHORTEST
from builder.verify import ArchiveFacts, Judge, Measure, from_packed, from_reference, load_images, load_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from builder.artifacts import Engine, File, Packed, Reference, Repository
    from builder.core.graph import Values
    from builder.package import Manifest
    from builder.recipe import AnyRecipe, Recipe

SHARED: Final = "-"
"""Stands for target and format in the ids of nodes that know nothing of them."""

OF_A_FORMAT: Final = frozenset({"pack", "measure", "judge", "attest", "deliver"})
"""Stages that are done for each format of a target."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the stages need of this machine; no part of any key."""

    cache: Path  # toolchain, wheels, server environments
    describe: Callable[[Path], File]  # hashes a file of the user's


def selected_targets(recipe: AnyRecipe, names: Sequence[str]) -> tuple[str, ...]:
    """The targets to build: all of the recipe, or the named ones in the recipe's order.

    Raises:
        RecipeError: a name is not among the recipe's targets.
    """
    unknown = [name for name in names if name not in recipe.targets]
    if unknown:
        known = ", ".join(recipe.targets)
        raise RecipeError(f"{recipe.path}: --target {unknown[0]}: no such target; allowed: {known}")
    return tuple(name for name in recipe.targets if not names or name in names)


def format_of(recipe: AnyRecipe, target: str, stage: str, form: str = "") -> str:
    """What stands for the format in a node's id: stages before ``pack`` are those of all formats, under the first."""
    if target == SHARED:
        return SHARED
    return form if form and stage in OF_A_FORMAT else recipe.package.formats[0]


def node_id(recipe: Recipe, target: str, stage: str, form: str = "") -> str:
    """``recipe/source/model/target/format/stage``."""
    kind = format_of(recipe, target, stage, form)
    return f"{recipe.name}/{recipe.source.kind}/{recipe.task}/{target}/{kind}/{stage}"


def nodes(recipe: Recipe, targets: Sequence[str], surroundings: Surroundings, *, verify: bool = True) -> list[Node]:
    """Every stage of a recipe, each after those that it needs.

    Raises:
        UserError: the recipe names a target, a Triton release, a field or a sample that does not exist.
    """
    if TASKS[recipe.task].takes == IMAGE:
        raise RecipeError(
            f"{recipe.path}: task {recipe.task} needs a pipeline of steps: image → model; auto has none for images",
            mend="name the steps, as docs/how-to/pipelines.md shows",
        )
    made = export_nodes(recipe, surroundings)
    for target in selected_targets(recipe, targets):
        made += _target(_Maker(recipe.for_target(target), target), target, surroundings, verify=verify)
    return made


def needs(recipe: Recipe, target: str, form: str, *, verify: bool) -> dict[str, str]:
    """What the delivery of a target's archive in a format waits for: stage → node id."""
    stages = (
        *_compiled(recipe.for_target(target), target),
        "config",
        "package",
        "pack",
        *(("measure", "judge") if verify else ()),
    )
    return exported(recipe) | {stage: node_id(recipe, target, stage, form) for stage in stages}


def described(recipe: Recipe, target: str, made: Values) -> tuple[Manifest, Reference]:
    """The manifest of an archive that nobody has verified yet, and what it is to be compared with."""
    reference: Reference = made["reference"]
    manifest = describe(
        recipe,
        target,
        source=made["source"],
        exported=(made.get("optimise", made["check"]), made["tokenizer"], _engine(made)),
        repository=made["package"],
        archive=made["pack"],
        reference=reference,
    )
    return manifest, reference


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes the nodes of one half of the pipeline."""

    recipe: Recipe
    target: str
    form: str = ""

    def node(self, stage: str, prepare: Callable[[Values], tuple[Any, Any]], *needs: str) -> Node:
        return Node(self.id(stage), {name: self.id(name) for name in needs}, prepare)

    def id(self, stage: str) -> str:
        return node_id(self.recipe, SHARED if stage in _OF_ALL else self.target, stage, self.form)


_OF_ALL: Final = frozenset(
    {"source", "tokenizer", "processor", "trace", "bind", "reference", "check", "warmup"},
)
"""Stages that know nothing of the target."""


def _compiled(recipe: Recipe, target: str) -> tuple[str, ...]:
    """The stages between the model that its author published and the one that a target serves."""
    asked = recipe.targets[target]
    return (*(["optimise"] if targeting.needs_optimise(asked) else []), *targeting.engine_stages(asked))


def exported(recipe: Recipe) -> dict[str, str]:
    """The stages of :func:`export_nodes`, in order, and the ids of their nodes."""
    before = "processor" if TASKS[recipe.task].takes == IMAGE else "tokenizer"
    stages = ("source", before, "trace", "bind", "reference", "check", *(["warmup"] if warm_up(recipe) else []))
    return {stage: node_id(recipe, SHARED, stage) for stage in stages}


def export_nodes(recipe: Recipe, surroundings: Surroundings) -> list[Node]:
    """The half of the pipeline that knows nothing of the target.

    Raises:
        UserError: the recipe names a sample that does not exist.
    """
    make = _Maker(recipe, SHARED)
    return (_export_images if TASKS[recipe.task].takes == IMAGE else _export_text)(make, surroundings)


def _export_images(make: _Maker, surroundings: Surroundings) -> list[Node]:
    recipe, task = make.recipe, make.recipe.task
    samples = load_images(recipe.verify.samples)
    refer = ReferImages(task, (recipe.shapes.batch.min, recipe.shapes.batch.max))
    return [
        make.node("source", lambda _: (Resolve(task, surroundings.describe), recipe.source)),
        make.node("processor", lambda made: (Processor(task), made["source"]), "source"),
        make.node("trace", lambda made: (Trace(task), (made["source"], made["processor"])), "source", "processor"),
        make.node("bind", lambda made: (Bind(task), (made["trace"], made["source"])), "trace", "source"),
        make.node(
            "reference", lambda made: (refer, (made["source"], made["processor"], samples)), "source", "processor"
        ),
        make.node("check", lambda made: (Check(), (made["bind"], made["reference"])), "bind", "reference"),
    ]


def _export_text(make: _Maker, surroundings: Surroundings) -> list[Node]:
    recipe, task = make.recipe, make.recipe.task
    samples = load_samples(
        recipe.verify.samples,
        text_pair=recipe.inputs.text_pair,
        questions=TASKS[task].pairs == REQUIRED,
        short_first=TASKS[task].truncation == "only_second",
    )

    def refer(made: Values) -> tuple[Any, Any]:
        shapes, max_length = recipe.shapes, made["tokenizer"].max_length
        if shapes.profiles:  # an engine would be refused for them: said before the work, not after it
            targeting.profiles(recipe, max_length)
        stage = Refer(task, (shapes.batch.min, shapes.batch.max), _sequence(recipe, max_length))
        return stage, (made["source"], made["tokenizer"], samples)

    made = [
        make.node("source", lambda _: (Resolve(task, surroundings.describe), recipe.source)),
        make.node("tokenizer", lambda made: (Tokenizer(task, recipe.inputs.max_length), made["source"]), "source"),
        make.node("trace", lambda made: (Trace(task), (made["source"], made["tokenizer"])), "source", "tokenizer"),
        make.node("bind", lambda made: (Bind(task), (made["trace"], made["source"])), "trace", "source"),
        make.node("reference", refer, "source", "tokenizer"),
        make.node("check", lambda made: (Check(), (made["bind"], made["reference"])), "bind", "reference"),
    ]
    if (warm := warm_up(recipe)) is not None:
        needs = "tokenizer", "reference"
        made.append(make.node("warmup", lambda made: (warm, (made["tokenizer"], made["reference"])), *needs))
    return made


def _sequence(recipe: Recipe, max_length: int) -> tuple[int, int]:
    """The least and the largest number of tokens that the graph is checked at.

    Raises:
        RecipeError: texts may be longer than the recipe's largest shape.
    """
    stated = recipe.shapes.sequence
    longest = (stated.max if stated else None) or max_length
    if longest < max_length:
        raise RecipeError(
            f"{recipe.path}: shapes.sequence.max is {longest}, but texts may have {max_length} tokens",
            mend=f"set inputs.max_length to {longest}, or shapes.sequence.max to {max_length}",
        )
    return min((stated.min if stated else None) or SHORTEST, longest), longest


def _target(make: _Maker, target: str, surroundings: Surroundings, *, verify: bool) -> list[Node]:
    """The half of the pipeline that is done for each target."""
    recipe = make.recipe
    compiled = _compiled(recipe, target)
    model = "optimise" if "optimise" in compiled else "check"
    served = (model, *(stage for stage in compiled if stage != "optimise"))
    config, layout = configure(recipe, target), package(recipe, target, surroundings.cache)

    def packaged(made: Values) -> tuple[Any, Any]:
        parts = (made["source"], made[model], made["tokenizer"], made["config"], made["reference"].labels)
        return layout, PackageInputs(*parts, _engine(made))

    def configured(made: Values) -> tuple[Any, Any]:
        labels = made["reference"].labels
        return config, ConfigureInputs(made[model], made["tokenizer"], made.get("warmup"), labels, _engine(made))

    made = [
        *_compiling(make, compiled),
        make.node("config", configured, *served, "tokenizer", "reference", *(["warmup"] if warm_up(recipe) else [])),
        make.node("package", packaged, "source", *served, "tokenizer", "config", "reference"),
    ]
    for form in recipe.package.formats:
        made += _packing(replace(make, form=form), surroundings, verify=verify)
    return made


def _packing(make: _Maker, surroundings: Surroundings, *, verify: bool) -> list[Node]:
    """What is done for each format of a target."""
    recipe, target = make.recipe, make.target

    def measured(made: Values) -> tuple[Any, Any]:
        asked = recipe.verify.sweep.concurrency
        return Measure(surroundings.cache, asked), proof_of(recipe, target, made, made["reference"])

    def judged(made: Values) -> tuple[Any, Any]:
        held = gates(recipe, target, made["reference"].metric)
        return Judge(held.tolerances, held.constraints), made["measure"]

    made = [make.node("pack", lambda made: (Pack(target, make.form), made["package"]), "package")]
    if verify:
        made.append(make.node("measure", measured, "pack", "package", "reference"))
        made.append(make.node("judge", judged, "measure", "reference"))
    return made


def _compiling(make: _Maker, stages: Sequence[str]) -> list[Node]:
    """From the model that its author published to what a target runs."""
    if not stages:
        return []
    from builder.optimise.stage import OptimiseInputs  # for such targets alone

    recipe, target = make.recipe, make.recipe.targets[make.target]
    samples = targeting.calibration(recipe, make.target)

    def optimised(made: Values) -> tuple[Any, Any]:
        held = gates(recipe, make.target, made["reference"].metric).tolerances
        inputs = OptimiseInputs(made["check"], made["reference"], made["tokenizer"], samples)
        return targeting.optimise(target, held), inputs

    def compiled(capability: str) -> Callable[[Values], tuple[Any, Any]]:
        def prepare(made: Values) -> tuple[Any, Any]:
            longest = made["tokenizer"].max_length
            return targeting.compile_for(recipe, make.target, capability, longest), made["optimise"]

        return prepare

    engines = targeting.engine_stages(target)
    return [
        make.node("optimise", optimised, "check", "reference", "tokenizer"),
        *(make.node(stage, compiled(capability), "optimise", "tokenizer") for stage, capability in engines.items()),
    ]


def _engine(made: Values) -> Engine | None:
    """What was compiled, for all GPUs of a target; None where it runs no plans."""
    engines = [value for stage, value in made.items() if stage.partition("-")[0] == "engine"]
    if not engines:
        return None
    from builder.engine import join

    return join(engines)


def proof_of(recipe: AnyRecipe, target: str, made: Values, reference: Reference) -> ArchiveFacts:
    """What the proof has to know of an archive that was just built."""
    packed: Packed = made["pack"]
    repository: Repository = made["package"]
    return ArchiveFacts(
        name=recipe.name,
        **from_packed(packed),
        triton=recipe.targets[target].triton,
        **from_reference(reference),
        max_batch_size=repository.record["max_batch_size"],
        text_pair=repository.record["text_pair"],
        load_models=tuple(repository.record.get("load_models", ())),
        neighbours=NEIGHBOURS in gates(recipe, target, reference.metric).tolerances,
        libraries=targeting.serving_libraries(recipe.targets[target]),
        python=only_python(repository.record),
        flat=not arrange(packed.format, repository).models,
    )
