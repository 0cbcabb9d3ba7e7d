"""Sections ``verify`` and ``package``: how the archive is proven, and how it is packed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AfterValidator, Discriminator, Field, JsonValue, Tag, model_validator

from builder.recipe.base import (
    Count,
    Frozen,
    FrozenMapping,
    RecipePath,
    Section,
    ascending,
    tagged,
    unique,
    wrong,
)
from builder.recipe.suggest import did_you_mean, show

if TYPE_CHECKING:
    from builder.artifacts import Json
else:
    Json = Any  # pydantic reads annotations; see builder.recipe.triton

Milliseconds = Annotated[float, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]

ONLY_SWEPT: Final = frozenset({"error_rate", "memory_mb"})
"""Constraints that a build cannot judge: it fails at the first refused request, and looks at no memory."""

OBJECTIVES: Final = ("throughput", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "mean_ms", "memory_mb", "cost")


class Uniform(Section):
    """Every length as often as any other."""

    min: Count = 1
    """The shortest text, in tokens."""

    max: Count
    """The longest text, in tokens."""


class LogNormal(Section):
    """Many short texts and a few long ones: the usual shape of what people write."""

    median: Positive
    """Half of the texts are shorter, in tokens."""

    sigma: Positive = 0.6
    """How wide: the standard deviation of the length's logarithm."""


def _check_one_shape(value: Lengths) -> Lengths:
    named = [name for name in ("uniform", "log_normal", "samples") if getattr(value, name) is not None]
    if len(named) != 1:
        raise wrong(f"give exactly one of uniform, log_normal, samples; got {' and '.join(named) or 'none'}")
    if value.uniform is not None and value.uniform.min > value.uniform.max:
        raise wrong(f"uniform: min, {value.uniform.min}, is more than max, {value.uniform.max}")
    return value


class Lengths(Section):
    """How long the texts are that a sweep sends: exactly one of the keys. Padding costs what it costs for them."""

    uniform: Uniform | None = None
    """Every length as often as any other: {min: 4, max: 128}."""

    log_normal: LogNormal | None = None
    """Many short texts and a few long ones: {median: 20, sigma: 0.6}."""

    samples: RecipePath | None = None
    """Real texts, as for verify.samples: they are sent as they are."""


@tagged
def _one_or_more(value: Json) -> str:
    return "more" if isinstance(value, list | tuple) else "one"


Batch = Annotated[
    Annotated[Count, Tag("<one>")]
    | Annotated[tuple[Count, ...], Field(min_length=1), AfterValidator(ascending), Tag("<more>")],
    Discriminator(_one_or_more),
]


class SweepLoad(Section):
    """What a sweep sends. Left out: as many requests in flight as verify.sweep.concurrency says, over gRPC."""

    rate: Annotated[tuple[Positive, ...], Field(min_length=1), AfterValidator(ascending)] | None = None
    """Requests per second, ascending, whatever becomes of them: an open loop, in place of concurrency."""

    arrivals: Literal["poisson", "constant"] = "poisson"
    """Of an open loop: whether requests come by chance, or at equal times."""

    batch: Batch = 1
    """Items in each request; of several, ascending, each is swept."""

    protocol: Literal["grpc", "http"] = "grpc"
    """What requests are sent over."""

    shared_memory: bool = False
    """Whether inputs and outputs go through the system's shared memory."""


_SETTINGS: Final = {
    "type": "object",
    "additionalProperties": {"anyOf": [{"type": "array", "minItems": 1}, {"type": "object"}]},
}


class Sweep(Section):
    """Under which load the archive is measured, and what a sweep tries."""

    concurrency: Annotated[tuple[Count, ...], Field(min_length=1), AfterValidator(ascending)] = (1, 4, 16)
    """Requests in flight at the same time, ascending: one measurement each. A sweep searches between them."""

    settings: Annotated[dict[str, JsonValue], Field(json_schema_extra=_SETTINGS)] | None = None
    """What a sweep tries: as in serving, but with a list of values for each: {max_batch_size: [1, 8]}. Beside them,
    what takes a build of its own: precision, padding, target. Of another step: steps: {tokenize: …}. Left out: copies,
    threads, batches and delays, by what the machine has."""

    search: Literal["guided", "exhaustive", "random"] = "guided"
    """How a sweep chooses what it measures. guided: what may be best by a model of the server, until nothing else can
    beat the best; exhaustive: everything; random: as a control."""

    lengths: Annotated[Lengths, AfterValidator(_check_one_shape)] | None = None
    """How long the texts are that a sweep sends. Left out: those of verify.samples."""

    load: SweepLoad = SweepLoad()
    """What a sweep sends. Left out: as many requests in flight as concurrency says."""

    price_per_hour: Positive | None = None
    """What the machine costs in an hour, for the objective cost."""

    @property
    def knobs(self) -> dict[str, tuple[Json, ...]]:
        """What settings says: knob → the values to try, as :mod:`builder.sweep.setting` names knobs."""
        from builder.recipe import sweeping

        return sweeping.knobs(self.settings)


class Constraints(Section):
    """What the measurement must reach, or the build fails."""

    p50_ms: Milliseconds | None = None
    """The largest median latency, in milliseconds."""

    p90_ms: Milliseconds | None = None
    """The largest 90th percentile of the latency, in milliseconds."""

    p95_ms: Milliseconds | None = None
    """The largest 95th percentile of the latency, in milliseconds."""

    p99_ms: Milliseconds | None = None
    """The largest 99th percentile of the latency, in milliseconds."""

    min_throughput: Annotated[float, Field(gt=0)] | None = None
    """The least throughput, in inferences per second."""

    error_rate: Annotated[float, Field(ge=0, lt=1)] | None = None
    """The largest share of requests that may fail, for sweeps alone: a build fails at the first."""

    memory_mb: Positive | None = None
    """The most memory that the server may hold, in megabytes, for sweeps alone: a build does not look."""


@tagged
def _one_or_weights(value: Json) -> str:
    return "weights" if isinstance(value, Mapping) else "one"


def _check_figure(value: str) -> str:
    if value not in OBJECTIVES:
        raise wrong(f"must be one of {', '.join(OBJECTIVES)}; got {show(value)}{did_you_mean(value, OBJECTIVES)}")
    return value


Figure = Annotated[str, AfterValidator(_check_figure), Field(json_schema_extra={"enum": list(OBJECTIVES)})]

Objective = Annotated[
    Annotated[Figure, Tag("<one>")] | Annotated[FrozenMapping[Figure, Positive], Field(min_length=1), Tag("<weights>")],
    Discriminator(_one_or_weights),
]


class Verify(Section):
    """How the archive is proven."""

    samples: RecipePath | None = None
    """Texts to ask: .txt with one per line, or .jsonl with {"text": …, "text_pair": …} per line.
    Left out: a set that ships with tritonsmith."""

    parity: FrozenMapping[str, float] = Frozen()
    """How close the answers must come to the Hugging Face model's. Left out: by task and precision."""

    sweep: Sweep = Sweep()
    """Under which load the archive is measured."""

    constraints: Constraints = Constraints()
    """What the measurement must reach, or the build fails."""

    objective: Objective = "throughput"
    """What a sweep looks for among the settings that hold the constraints: throughput, a latency such as p99_ms, cost
    (of a million inferences, with verify.sweep.price_per_hour), memory_mb; or weights: {throughput: 0.7, p99_ms: 0.3}.
    """

    @model_validator(mode="after")
    def _priced(self) -> Verify:
        named = {self.objective} if isinstance(self.objective, str) else set(self.objective)
        if "cost" in named and self.sweep.price_per_hour is None:
            raise wrong("objective cost needs sweep.price_per_hour: what the machine costs in an hour")
        return self

    def keyed(self) -> dict[str, Json]:
        """What says how an archive is proven. What only sweeps read changes nothing in it, nor in its manifest."""
        data = self.model_dump(mode="json", exclude={"objective"}, exclude_none=True)
        data["sweep"] = {"concurrency": data["sweep"]["concurrency"]}
        data["constraints"] = {key: limit for key, limit in data["constraints"].items() if key not in ONLY_SWEPT}
        return data


Format = Literal["triton", "sagemaker", "sagemaker-mme", "s3-prefix"]

BY_COMPOSITION: Final = frozenset({"sagemaker-mme"})
"""Formats whose hosts load an ensemble with what it is composed of, and nothing that a step calls by name."""


class Sign(Section):
    """Who vouches for the archives."""

    key: RecipePath
    """File of an OpenSSH private key without a passphrase. Neither it nor its name is in any file that is written."""


class Package(Section):
    """How the repository is packed."""

    formats: Annotated[tuple[Format, ...], Field(min_length=1), unique("the formats")] = ("triton",)
    """What to make: one archive of each kind for each target; of s3-prefix, which is not packed, a folder.
    All but triton's go to a folder of their format's name."""

    sign: Sign | None = None
    """Sign the archives and all that lies beside them. Left out: they are not signed."""
