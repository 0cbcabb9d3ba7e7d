"""Section ``handoff``: how an archive is handed to a host, and which requests are written for it.

Words are those of SageMaker's API, in lower case. The section changes no archive: it travels in the manifest beside it.
Imported only for recipes that have it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, JsonValue, ValidationError

from builder.recipe.base import Count, Frozen, FrozenMapping, Section, unique
from builder.recipe.hosting import (
    Argument,
    Bucket,
    Endpoint,
    InstanceType,
    Prefix,
    Region,
    RoleArn,
    S3Uri,
    Target,
    matches,
)
from builder.recipe.problems import translate

if TYPE_CHECKING:
    from builder.artifacts import Json
    from builder.recipe.document import Node, Problem

Operation = Literal[
    "CreateModel",
    "CreateEndpointConfig",
    "CreateEndpoint",
    "CreateInferenceComponent",
    "RegisterScalableTarget",
    "PutScalingPolicy",
    "CreateTransformJob",
    "CreateInferenceRecommendationsJob",
]


class Transform(Section):
    """A batch transform job."""

    instance: InstanceType | None = None
    """The instance type. Left out: that of the target's hardware."""

    count: Count = 1
    """Instances."""

    input: S3Uri
    """The beginning of the keys of all requests: one file is one request."""

    output: S3Uri
    """Where answers go."""

    content_type: str = "application/json"
    """What the files are."""

    max_payload_mb: Annotated[int, Field(ge=1, le=100)] = 6
    """The largest request."""

    max_concurrent: Count = 1
    """Requests that one instance is sent at the same time."""

    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 600
    """How long an answer may take."""

    retries: Annotated[int, Field(ge=0, le=3)] = 1
    """How often a request is sent again."""


class Phase(Section):
    """A phase of traffic: users who each wait for their answer before they ask again."""

    users: Annotated[int, Field(ge=1, le=3)] = 1
    """Users at the beginning."""

    spawn_rate: Annotated[int, Field(ge=0, le=3)] = 1
    """Users that are added each minute."""

    duration_seconds: Annotated[int, Field(ge=120, le=3600)] = 120
    """How long it takes."""


class Latency(Section):
    """A latency that must not be passed."""

    percentile: Annotated[str, matches(r"P\d{1,2}", "a percentile, such as P95")] = "P95"
    """Of the model's latency."""

    milliseconds: Count
    """The most it may be."""


class Recommendations(Section):
    """A job of the Inference Recommender: a load test on several instance types."""

    instances: Annotated[tuple[InstanceType, ...], Field(min_length=1, max_length=10), unique("the instances")]
    """The instance types to try."""

    payload: S3Uri
    """A .tar.gz of sample requests."""

    content_type: str = "application/json"
    """What the sample requests are."""

    domain: Literal["NATURAL_LANGUAGE_PROCESSING", "COMPUTER_VISION", "MACHINE_LEARNING"] = "MACHINE_LEARNING"
    """What the model is about."""

    task: Literal["CLASSIFICATION", "REGRESSION", "IMAGE_CLASSIFICATION", "OTHER"] = "OTHER"
    """What the model does."""

    phases: Annotated[tuple[Phase, ...], Field(min_length=1)] = (Phase(),)
    """The traffic."""

    duration_seconds: Annotated[int, Field(ge=1, le=18_000)] = 7200
    """How long the job may take."""

    max_invocations_per_minute: Annotated[int, Field(ge=1, le=30_000)] | None = None
    """Traffic beyond which it stops."""

    latency: Latency | None = None
    """Latency beyond which it stops."""


class SageMaker(Section):
    """How archives are handed to Amazon SageMaker."""

    role_arn: RoleArn
    """The role that SageMaker takes: it reads the bucket and pulls the image."""

    region: Region
    """Where it is hosted."""

    bucket: Bucket
    """Where archives are put."""

    prefix: Prefix = "tritonsmith"
    """The beginning of their keys."""

    name: str | None = None
    """What names in SageMaker begin with. Left out: the archive's name."""

    image: Annotated[str, matches(r"\S+", "an image, without blanks")] | None = None
    """The container. Left out: AWS's image of the target's Triton release, of the region."""

    environment: FrozenMapping[str, str] = Frozen()
    """Variables of the container, beside those that follow from the archive."""

    additional_args: tuple[Argument, ...] = ()
    """Options of tritonserver, beside those that follow from the archive."""

    inference_type: Literal["infer", "generate", "generate_stream"] = "infer"
    """What /invocations does; not on multi-model endpoints."""

    model_cache: Literal["Enabled", "Disabled"] = "Enabled"
    """Of a multi-model endpoint: whether models stay loaded."""

    inference_execution_mode: Literal["Serial", "Direct"] | None = None
    """Several archives as containers of one model: one after another, or each by its name."""

    network_isolation: bool = False
    """Whether containers are cut off from all networks."""

    endpoint: Endpoint | None = None
    """The endpoint. Left out: only a model is made."""

    transform: Transform | None = None
    """A batch transform job of the model."""

    recommendations: Recommendations | None = None
    """A load test of the model."""

    tags: FrozenMapping[str, str] = Frozen()
    """Tags of all that is made."""

    usd_per_hour: FrozenMapping[InstanceType, Target] = Frozen()
    """Prices of instance types, where those that ship with tritonsmith are not yours."""

    requests: FrozenMapping[Operation, dict[str, JsonValue]] = Frozen()
    """Raw fields of requests, merged last and checked like the rest: {CreateModel: {VpcConfig: …}}."""


class Handoff(Section):
    """How archives are handed to a host."""

    sagemaker: SageMaker
    """Amazon SageMaker."""


class _Document(Section):
    """A recipe, as far as this section goes."""

    handoff: Handoff


def read(data: Json, root: Node, problems: list[Problem]) -> Handoff | None:
    """The section as values.

    Args:
        data: of the section.
        root: the document that has it: where each value stands.
        problems: gets what is wrong; then there are no values.
    """
    try:
        return _Document.model_validate_json(json.dumps({"handoff": data})).handoff
    except ValidationError as error:
        problems += translate(error, root, _Document)
        return None
