"""Section ``pipeline``: named steps, and what each of them does. Imported only for recipes that have them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from builder.recipe.base import Count, Frozen, FrozenMapping, RecipePath, Section, tagged, wrong
from builder.recipe.schema import check_part_name
from builder.recipe.serving import Serving
from builder.recipe.suggest import did_you_mean, show

if TYPE_CHECKING:
    from builder.artifacts import Json

DTYPES: Final = (
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "BYTES"),
)


_REQUIREMENT: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?==[A-Za-z0-9.!+_-]+", re.ASCII)


def _check_reference(value: str) -> str:
    step, _, tensor = value.partition(".")
    if not step or not tensor:
        raise wrong(f"must be STEP.TENSOR, such as tokenize.input_ids, or request.TENSOR; got {show(value)}")
    return value


Reference = Annotated[str, AfterValidator(_check_reference)]
"""``step.TENSOR``, or ``request.TENSOR``."""

ModelName = Annotated[str, Field(min_length=1)]
"""A key of ``models``."""


@tagged
def _one_or_many(value: Json) -> str:
    return "many" if isinstance(value, list | tuple) else "one"


Given = Annotated[
    Annotated[Reference, Tag("<one>")] | Annotated[tuple[Reference, ...], Field(min_length=1), Tag("<many>")],
    Discriminator(_one_or_many),
]


def _check_dtype(value: str) -> str:
    if value not in DTYPES:
        raise wrong(f"unknown data type {value!r}; allowed: {', '.join(DTYPES)}{did_you_mean(value, DTYPES)}")
    return value


class TensorSpec(Section):
    """A tensor of a step of your own, without the batch axis."""

    dtype: Annotated[str, AfterValidator(_check_dtype), Field(json_schema_extra={"enum": list(DTYPES)})]
    """Triton's name of the data type, such as FP32; BYTES for text."""

    dims: Annotated[tuple[int, ...], Field(min_length=1)]
    """The size of each axis, without the batch axis; -1: any size."""

    optional: bool = False
    """Whether a request may leave it out."""


class _Step(Section):
    kind: ClassVar[str]

    inputs: FrozenMapping[str, Given] = Frozen()
    """Where inputs come from: tensor → STEP.TENSOR, or request.TENSOR. Left out: the only earlier step that gives a
    tensor of that name, else the request."""

    serving: Serving = Serving()
    """How Triton schedules and runs this step; of a model's step, the section of the model counts."""


class TokenizerStep(_Step):
    """Text to token ids."""

    kind = "tokenizer"

    tokenizer: ModelName
    """The model whose tokenizer it is; others with the same tokenizer may take its ids too."""


class ModelStep(_Step):
    """A model of ``models``, without its tokenizer."""

    kind = "model"

    model: ModelName
    """The model."""


class EnsembleStep(_Step):
    """A model of ``models`` with its tokenizer, as an ensemble in the ensemble."""

    kind = "ensemble"

    ensemble: ModelName
    """The model."""


class LabelsStep(_Step):
    """Probabilities to names of labels and scores."""

    kind = "labels"

    labels: ModelName
    """The model whose labels they are."""

    top_k: Count = 1
    """How many labels each answer has, the most probable first."""


class SpansStep(_Step):
    """Logits of question answering to an answer, its score and its place in the context."""

    kind = "spans"

    spans: ModelName
    """The model whose logits they are."""

    max_answer_length: Count = 15
    """Tokens that an answer may have."""


class EntitiesStep(_Step):
    """Logits of token classification to entities."""

    kind = "entities"

    entities: ModelName
    """The model whose labels they are."""

    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] = "simple"
    """How tokens become entities, as in transformers' pipeline."""

    @property
    def gathers_words(self) -> bool:
        """Whether tokens are gathered into words first."""
        return self.aggregation_strategy in {"first", "average", "max"}


class ImageStep(_Step):
    """JPEG or PNG bytes to pixels."""

    kind = "image"

    image: ModelName
    """The model whose preprocessor_config.json says how."""


class AggregateStep(_Step):
    """The answers of several models to one."""

    kind = "aggregate"

    aggregate: Literal["mean", "max", "vote"]
    """mean or maximum of the probabilities; vote: the share of the models that prefer each label."""


class Select(Section):
    """Which model answers."""

    by: Reference
    """The tensor (BYTES, one per row) that decides."""

    cases: FrozenMapping[str, ModelName]
    """Value of that tensor → the model of ``models`` that answers."""

    default: ModelName | None = None
    """The model for all other values. Left out: such rows are refused."""


class SelectStep(_Step):
    """One of several models, chosen for each row: a model with business logic (BLS)."""

    kind = "select"

    select: Select
    """Which model answers."""


def _check_requirement(value: str) -> str:
    if not _REQUIREMENT.fullmatch(value):
        raise wrong(f"must be a package with its exact version, such as langid==1.1.6; got {show(value)}")
    return value


class Environment(Section):
    """A Python environment of your own, which Triton unpacks and runs the step in."""

    packed: RecipePath
    """A .tar.gz that conda-pack made of an environment with the Python of the target's Triton, and numpy."""


class PythonStep(_Step):
    """A file of yours."""

    kind = "python"

    python: RecipePath
    """The file: a function ``run`` or a class ``Step``."""

    takes: FrozenMapping[str, TensorSpec]
    """Its inputs."""

    gives: FrozenMapping[str, TensorSpec]
    """Its outputs."""

    requirements: tuple[Annotated[str, AfterValidator(_check_requirement)], ...] = ()
    """Packages that it imports, as pip takes them, with exact versions: langid==1.1.6. They are put beside it."""

    environment: Environment | None = None
    """Instead of requirements, where wheels do not do: a whole Python environment (EXECUTION_ENV_PATH)."""

    parameters: FrozenMapping[str, str] = Frozen()
    """What it is told."""

    @model_validator(mode="after")
    def _has_one_place_for_packages(self) -> Self:
        if self.environment and self.requirements:
            raise wrong("has requirements and an environment: what it imports is in the environment, or beside it")
        return self


KINDS: Final = {
    step.kind: step
    for step in (
        TokenizerStep,
        ModelStep,
        LabelsStep,
        SpansStep,
        EntitiesStep,
        ImageStep,
        AggregateStep,
        SelectStep,
        EnsembleStep,
        PythonStep,
    )
}
"""Kind → the section of a step."""


@tagged
def _kind(value: Json) -> str | None:
    if not isinstance(value, dict):
        return getattr(value, "kind", None)
    named = [kind for kind in KINDS if kind in value]
    return named[0] if len(named) == 1 else None


AnyStep = Annotated[
    Annotated[TokenizerStep, Tag("<tokenizer>")]
    | Annotated[ModelStep, Tag("<model>")]
    | Annotated[LabelsStep, Tag("<labels>")]
    | Annotated[SpansStep, Tag("<spans>")]
    | Annotated[EntitiesStep, Tag("<entities>")]
    | Annotated[ImageStep, Tag("<image>")]
    | Annotated[AggregateStep, Tag("<aggregate>")]
    | Annotated[SelectStep, Tag("<select>")]
    | Annotated[EnsembleStep, Tag("<ensemble>")]
    | Annotated[PythonStep, Tag("<python>")],
    Discriminator(_kind),
]


def _check_step_name(value: str) -> str:
    if value == "request":
        raise wrong("request stands for the client: give the step another name")
    return check_part_name(value)


StepName = Annotated[str, AfterValidator(_check_step_name)]


@tagged
def _list_or_mapping(value: Json) -> str:
    return "mapping" if isinstance(value, Mapping) else "list"


class Pipeline(Section):
    """A pipeline of named steps."""

    steps: Annotated[FrozenMapping[StepName, AnyStep], Field(min_length=1)]
    """Name → step. A step may take what those before it give, by name; more is said under its inputs."""

    outputs: Annotated[
        Annotated[FrozenMapping[str, Reference], Tag("<mapping>")]
        | Annotated[tuple[str, ...], Field(min_length=1), Tag("<list>")],
        Discriminator(_list_or_mapping),
    ]
    """What clients get: name → STEP.TENSOR; or a list of tensors that only one step gives."""
