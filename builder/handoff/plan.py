"""The values of a hand-off: facts of archives, uploads, calls. A release folder holds them all as ``plan.json``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from builder.package.formats import MULTI_MODEL, named

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.artifacts import Json

SAGEMAKER, SCALING = "sagemaker", "application-autoscaling"
"""Services as boto3 calls them."""

PASSED: Final = "passed"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an archive, from the manifest beside it; None and empty where nothing is."""

    name: str  # what clients call
    target: str
    format: str
    status: str  # passed | failed | inconclusive | unverified
    file: str  # name of the archive, or of the folder
    tree_digest: str
    sha256: str  # of the archive; of the tree where it is a folder
    packed_bytes: int | None
    unpacked_bytes: int | None
    triton: str  # release: 25.09
    runtime: str
    max_batch_size: int
    max_length: int | None = None  # tokens
    inputs: tuple[dict[str, Any], ...] = ()  # of Triton's config: name, data_type, dims
    outputs: tuple[dict[str, Any], ...] = ()
    load_models: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()  # that NVIDIA's image has not
    capabilities: tuple[str, ...] = ()  # compute capabilities of its plans
    library: str | None = None  # version of what compiled the plans
    any_gpu: bool = False  # plans that run on GPUs they were not compiled for
    any_version: bool = False  # plans that later versions of the library load
    response_cache: bool = False
    rate_limiter: bool = False
    decoupled: bool = False
    vcpus: int | None = None  # of the machine that it was made for
    instance: str | None = None  # of the target, as the recipe says

    @property
    def is_folder(self) -> bool:
        """Whether it is uploaded file by file."""
        return named(self.format).is_folder

    @property
    def is_multi(self) -> bool:
        """Whether it is for a multi-model endpoint."""
        return named(self.format).host == MULTI_MODEL


@dataclass(frozen=True, slots=True)
class Upload:
    """An archive and where it goes. ``key`` ends with a slash where a folder goes."""

    file: str  # name of the archive or folder, beside its manifest
    bucket: str
    key: str
    sha256: str  # of the file; of the tree where it is a folder
    size: int | None  # bytes

    @property
    def uri(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class Call:
    """One request, in the order in which they are sent."""

    service: str
    operation: str
    parameters: dict[str, Any]

    @property
    def name(self) -> str:
        """What the request makes, as the service calls it."""
        return str(self.parameters.get(_NAMES[self.operation], ""))


_NAMES: Final = {
    "CreateModel": "ModelName",
    "CreateEndpointConfig": "EndpointConfigName",
    "CreateEndpoint": "EndpointName",
    "CreateInferenceComponent": "InferenceComponentName",
    "RegisterScalableTarget": "ResourceId",
    "PutScalingPolicy": "PolicyName",
    "CreateTransformJob": "TransformJobName",
    "CreateInferenceRecommendationsJob": "JobName",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """A hand-off, whole."""

    region: str
    image: str
    archives: tuple[Facts, ...]
    uploads: tuple[Upload, ...]
    calls: tuple[Call, ...]
    max_payload_mb: float | None = None  # that the host takes, where it is not the usual limit
    usd_per_hour: dict[str, float] = field(default_factory=dict)

    def of(self, operation: str) -> Iterator[dict[str, Json]]:
        """The parameters of all calls of an operation."""
        return (call.parameters for call in self.calls if call.operation == operation)

    @property
    def variants(self) -> tuple[dict[str, Json], ...]:
        """All production variants."""
        return tuple(one for config in self.of("CreateEndpointConfig") for one in config.get("ProductionVariants", ()))

    @property
    def containers(self) -> tuple[dict[str, Json], ...]:
        """All containers of all models."""
        found: list[dict[str, Json]] = []
        for model in self.of("CreateModel"):
            found += [model["PrimaryContainer"]] if "PrimaryContainer" in model else model.get("Containers", [])
        return tuple(found)

    @property
    def multi(self) -> bool:
        """Whether it is a multi-model endpoint."""
        return any(one.get("Mode") == "MultiModel" for one in self.containers)

    @property
    def serverless(self) -> bool:
        """Whether the endpoint is serverless."""
        return any("ServerlessConfig" in one for one in self.variants)

    @property
    def instances(self) -> tuple[str, ...]:
        """The instance types that serve, those of transform jobs included."""
        found = [one.get("InstanceType") for one in self.variants]
        found += [pool.get("InstanceType") for one in self.variants for pool in one.get("InstancePools", ())]
        found += [one.get("TransformResources", {}).get("InstanceType") for one in self.of("CreateTransformJob")]
        return tuple(dict.fromkeys(name for name in found if name))
