"""Values, and the section ``endpoint`` of ``handoff``: what serves, on what, how much of it. As SageMaker says it."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from builder.recipe.base import Count, Section, wrong
from builder.recipe.suggest import show


def matches(pattern: str, what: str) -> AfterValidator:
    """Refuses what a pattern does not match whole, and says what it must be."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise wrong(f"must be {what}; got {show(value)}")
        return value

    return AfterValidator(check)


_ROLE: Final = r"arn:aws[a-z\-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+"
_BUCKET: Final = r"[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]"
_PREFIX: Final = r"([A-Za-z0-9!_.*'()\-]+(/[A-Za-z0-9!_.*'()\-]+)*)?"

RoleArn = Annotated[str, matches(_ROLE, "the ARN of a role, arn:aws:iam::<12 digits>:role/<name>")]
Region = Annotated[str, matches(r"[a-z]{2}(-[a-z]+)+-\d", "a region, such as eu-central-1")]
Bucket = Annotated[str, matches(_BUCKET, "the name of a bucket: 3 to 63 of a-z, 0-9, '.' and '-'")]
Prefix = Annotated[str, matches(_PREFIX, "the beginning of keys, a/b, without a slash at either end")]
S3Uri = Annotated[str, matches(r"s3://[^/]+/.*", "a place in S3, s3://bucket/key")]
TopicArn = Annotated[str, matches(r"arn:aws[a-z\-]*:sns:[a-z0-9\-]*:\d{12}:\S+", "the ARN of an SNS topic")]
InstanceType = Annotated[str, matches(r"ml\.[a-z0-9\-]+\.[a-z0-9\-]+", "an instance type, such as ml.g5.xlarge")]
Argument = Annotated[str, matches(r"--[a-z][a-z0-9\-]*(=\S+)?", "one option of tritonserver, --option=value")]
Seconds = Annotated[int, Field(ge=1, le=86400)]
Timeout = Annotated[int, Field(ge=60, le=3600)]
Target = Annotated[float, Field(gt=0)]


class Scaling(Section):
    """Bounds of a number of instances."""

    min: Annotated[int, Field(ge=0)] = 1
    """The least."""

    max: Count
    """The most."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise wrong(f"min {self.min} is more than max {self.max}")
        return self


class Autoscaling(Scaling):
    """Target tracking by Application Auto Scaling: of instances, or of copies where there are components."""

    concurrency: Target | None = None
    """Requests in flight, queued ones included, for each instance or copy: measured every 10 seconds."""

    invocations_per_minute: Target | None = None
    """Requests a minute for each instance or copy. Beside concurrency, it holds capacity when containers crash."""

    utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    """Only of serverless endpoints with provisioned concurrency: the share of it that is to be in use."""

    scale_in_cooldown_seconds: Annotated[int, Field(ge=0)] = 300
    """Seconds between two steps down."""

    scale_out_cooldown_seconds: Annotated[int, Field(ge=0)] = 180
    """Seconds between two steps up."""

    @model_validator(mode="after")
    def _some_metric(self) -> Self:
        if self.concurrency is None and self.invocations_per_minute is None and self.utilization is None:
            raise wrong("must have a target: concurrency, invocations_per_minute, or both")
        return self


class Serverless(Section):
    """A serverless endpoint."""

    memory_mb: Literal[1024, 2048, 3072, 4096, 5120, 6144]
    """Memory, in MB."""

    max_concurrency: Annotated[int, Field(ge=1, le=200)]
    """Requests at the same time at most."""

    provisioned_concurrency: Annotated[int, Field(ge=1, le=200)] | None = None
    """How many copies are kept warm."""


class AsyncInference(Section):
    """An asynchronous endpoint: requests and answers lie in S3."""

    output: S3Uri
    """Where answers go."""

    failure: S3Uri | None = None
    """Where reports of failures go."""

    max_concurrent_invocations: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Requests that one instance is sent at the same time."""

    success_topic: TopicArn | None = None
    """An SNS topic that is told of answers."""

    error_topic: TopicArn | None = None
    """An SNS topic that is told of failures."""


class Components(Section):
    """Inference components: each archive is one, and several share the endpoint's instances."""

    copies: Annotated[int, Field(ge=0)] = 1
    """Copies of each."""

    accelerators: Annotated[float, Field(ge=1)] | None = None
    """GPUs for each copy. Left out: 1 where the instance has a GPU."""

    cpus: Annotated[float, Field(ge=0.25)] | None = None
    """Virtual CPUs for each copy."""

    min_memory_mb: Annotated[int, Field(ge=128)] | None = None
    """Memory that each copy is sure of. Left out: 1 GiB and twice what the archive unpacks to."""

    max_memory_mb: Annotated[int, Field(ge=128)] | None = None
    """Memory beyond which a copy is ended."""


class Endpoint(Section):
    """A real-time, serverless or asynchronous endpoint."""

    name: str | None = None
    """The endpoint's name. Left out: that of the hand-off with a digest of its configuration."""

    instance: InstanceType | None = None
    """The instance type. Left out: that of the target's hardware."""

    count: Count = 1
    """Instances at the start."""

    routing_strategy: Literal["LEAST_OUTSTANDING_REQUESTS", "RANDOM"] = "LEAST_OUTSTANDING_REQUESTS"
    """Which instance a request goes to."""

    inference_ami_version: str | None = None
    """The machine image of the instances. Left out: on GPUs, one whose driver runs the release's CUDA."""

    managed_instance_scaling: Scaling | None = None
    """Instances that SageMaker adds and removes as components need them."""

    volume_gb: Annotated[int, Field(ge=1, le=512)] | None = None
    """Size of the disk."""

    download_timeout_seconds: Timeout | None = None
    """How long the download of the archive may take. Left out: by its size, if the host's default is short."""

    startup_timeout_seconds: Timeout | None = None
    """How long the container may take until it is healthy. Left out: by the size, if 4 minutes are short."""

    serverless: Serverless | None = None
    """Instead of instances."""

    async_inference: AsyncInference | None = None
    """Requests and answers in S3, up to 1 GB and one hour."""

    autoscaling: Autoscaling | None = None
    """How many instances or copies there are, by load."""

    components: Components | None = None
    """Each archive as an inference component."""

    max_payload_mb: Annotated[float, Field(gt=0)] | None = None
    """The largest request that the host takes, where it is not its usual limit (6 MB; serverless 4 MB)."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        for_instances = ("instance", "managed_instance_scaling", "components", "async_inference", "volume_gb")
        taken = [name for name in for_instances if getattr(self, name) is not None]
        if self.serverless is not None and taken:
            raise wrong(f"serverless and {taken[0]} exclude each other")
        if self.autoscaling is not None:
            provisioned = self.serverless is not None and self.serverless.provisioned_concurrency is not None
            if self.serverless is not None and not provisioned:
                raise wrong("autoscaling of a serverless endpoint needs serverless.provisioned_concurrency")
            if (self.autoscaling.utilization is not None) != provisioned:
                raise wrong("autoscaling.utilization is for provisioned concurrency, and nothing else is")
        return self
