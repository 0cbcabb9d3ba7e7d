"""The root of a recipe with several models and a pipeline of named steps. Imported only for recipes that are so."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from builder.recipe.base import FrozenMapping, RecipePath, Reserved, Section, wrong
from builder.recipe.inputs import Inputs, Shapes
from builder.recipe.schema import (
    DEFAULT_TARGETS,
    TARGET_PATTERN,
    HandoffData,
    Name,
    Placed,
    Recipe,
    SchemaVersion,
    Targets,
    TaskName,
    check_part_name,
)
from builder.recipe.serving import Serving
from builder.recipe.source import AnySource
from builder.recipe.steps import AnyStep, Pipeline
from builder.recipe.verify import Package, Verify


def _refuse_moved(value: object) -> None:
    if value is not None:
        raise wrong("a recipe with models (or a pipeline of steps) says this of each model: write models.NAME.KEY")


Moved = Annotated[None, BeforeValidator(_refuse_moved), WithJsonSchema({"type": "null"})]
"""A key of recipes with one model."""

PartName = Annotated[str, AfterValidator(check_part_name), Field(json_schema_extra={"pattern": TARGET_PATTERN})]


class Model(Section):
    """A model of a pipeline."""

    source: AnySource
    """Where the model comes from: exactly one of hub, path, package, architecture."""

    task: TaskName
    """What the model does."""

    inputs: Inputs = Inputs()
    """How text becomes tokens."""

    shapes: Shapes = Shapes()
    """The shapes that the exported model is checked at, and the optimisation profiles of engines."""

    serving: Serving = Serving()
    """How Triton schedules and runs this model."""


class Composed(Placed):
    """How several models are to be served by Triton as one."""

    schema_version: SchemaVersion
    """The version of this format: 1."""

    name: Name
    """What clients call: the name of the ensemble, and of the folder that holds it."""

    description: str = ""
    """What this is, for humans: changes nothing in the model repository."""

    source: Moved = None
    """Of each model."""

    task: Moved = None
    """Of each model."""

    inputs: Moved = None
    """Of each model."""

    shapes: Moved = None
    """Of each model."""

    models: Annotated[FrozenMapping[PartName, Model], Field(min_length=1)]
    """The models, by names of your choice."""

    targets: Targets = DEFAULT_TARGETS
    """What the archive is built for, by a name of your choice: one archive for each."""

    serving: Serving = Serving()
    """How Triton serves the whole: max_batch_size, response_cache, version_policy."""

    pipeline: Pipeline
    """The steps of the ensemble."""

    verify: Verify = Verify()
    """How the archive is proven."""

    package: Package = Package()
    """How the repository is packed."""

    tuned: RecipePath | None = None
    """A file with settings for each target, which `tritonsmith sweep --write-tuned` wrote: they come before this
    recipe's own, and --set before them."""

    handoff: HandoffData = None
    """How the archive is handed to a host: changes nothing in it."""

    sources: Reserved = None
    """Reserved: one archive for each of several sources."""

    @property
    def max_batch_size(self) -> int:
        """Of the whole: the recipe's, or the least of its models."""
        return self.serving.max_batch_size or min(model.shapes.batch.max for model in self.models.values())

    def single(self, model: str) -> Recipe:
        """The recipe of one of the models, as if it were built alone: ``<name>-<model>``."""
        part = self.models[model]
        given: dict[str, Any] = {
            "schema_version": 1,
            "name": f"{self.name}-{model}",
            "source": part.source,
            "task": part.task,
            "inputs": part.inputs,
            "shapes": part.shapes,
            "serving": part.serving,
            "targets": self.targets,
            "verify": Verify(),  # samples and tolerances are those of the whole
            "package": self.package,
        }
        return Recipe.model_construct(**given).placed(self.path, self.overrides, self.root)


def named_models(step: AnyStep) -> tuple[str, ...]:
    """The models that a step names."""
    kind = step.kind
    if kind == "select":
        return tuple(dict.fromkeys([*step.select.cases.values(), *filter(None, [step.select.default])]))  # type: ignore[union-attr]
    value = getattr(step, kind)
    return (value,) if kind not in {"aggregate", "python"} else ()
