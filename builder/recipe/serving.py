"""Section ``serving``: how Triton schedules and runs the model. The names are Triton's own (``model_config.proto``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, JsonValue, PlainSerializer, Tag
from typing_extensions import TypedDict

from builder.recipe.base import INT32_MAX, Count, Frozen, FrozenMapping, Section, tagged, unique, wrong
from builder.recipe.suggest import did_you_mean, show
from builder.recipe.triton import VariantsSchema, WarmupSchema, from_triton, names_only

if TYPE_CHECKING:
    from collections.abc import Sized

    from builder.artifacts import Json
else:
    Json = Any  # pydantic reads annotations; see builder.recipe.triton

# Their fields are described where they stand: pydantic would read docstrings from the source, in every command.
_NO_OTHER_KEYS = ConfigDict(strict=True, extra="forbid")
_ONE_KEY = ConfigDict(**_NO_OTHER_KEYS, json_schema_extra={"minProperties": 1, "maxProperties": 1})


class DynamicBatching(Section):
    """How single requests are gathered into batches."""

    max_queue_delay_microseconds: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """How long a request may wait for others, in microseconds; 0: it never waits, but what waits anyway is gathered."""

    preferred_batch_size: Annotated[tuple[Count, ...], unique("the sizes")] = ()
    """Batch sizes to aim for; rarely of use."""

    preserve_ordering: bool = False
    """Whether answers leave in the order in which the requests came."""

    priority_levels: Json = from_triton("dynamic_batching", "priority_levels")
    """How many priorities requests may have, 1 the highest; 0 or left out: none."""

    default_priority_level: Json = from_triton("dynamic_batching", "default_priority_level")
    """The priority of a request that names none, from 1 to priority_levels."""

    default_queue_policy: Json = from_triton("dynamic_batching", "default_queue_policy")
    """How requests wait: max_queue_size (requests; 0: any number), default_timeout_microseconds (0: for ever),
    timeout_action (REJECT, DELAY), allow_timeout_override (whether a request may ask for a shorter one)."""

    priority_queue_policy: Json = from_triton("dynamic_batching", "priority_queue_policy")
    """The same for single priorities, by their number in quotes: {"1": {max_queue_size: 10}}."""


class InstanceGroup(Section):
    """Copies of the model that run at the same time."""

    count: Annotated[Count | None, Field(exclude_if=lambda count: count is None)] = None
    """How many copies, on each of gpus where there are any. Left out: 1."""

    kind: Literal["KIND_AUTO", "KIND_CPU", "KIND_GPU", "KIND_MODEL"] | None = None
    """Where they run. Left out: follows the target."""

    name: Json = from_triton("instance_group", "name")
    """What the server's log calls them. Left out: the model's name and a number."""

    gpus: Json = from_triton("instance_group", "gpus")
    """The GPUs that get copies, by their CUDA index. Left out: all."""

    profile: Json = from_triton("instance_group", "profile")
    """The optimisation profiles of a TensorRT engine that the copies use, by index, in quotes."""

    host_policy: Json = from_triton("instance_group", "host_policy")
    """The name of a --host-policy of the server: NUMA node and CPU cores."""

    rate_limiter: Json = from_triton("instance_group", "rate_limiter")
    """What a copy must get before it runs, and its priority; needs the server's --rate-limit=execution_count."""

    passive: Json = from_triton("instance_group", "passive")
    """Whether the copies are loaded, but get no requests from the scheduler."""

    secondary_devices: Json = from_triton("instance_group", "secondary_devices")
    """Further devices of TensorRT engines: NVDLA cores."""


class ResponseCache(Section):
    """Triton's cache of answers to equal requests; it also needs the server's --cache-config."""

    enable: bool = False
    """Whether answers are cached."""


class Latest(TypedDict, total=False):
    """The newest versions."""

    __pydantic_config__ = _NO_OTHER_KEYS  # type: ignore[misc]

    num_versions: Annotated[Count, Field(description="How many of the newest versions are served.")]


class All(TypedDict, total=False):
    """All versions."""

    __pydantic_config__ = _NO_OTHER_KEYS  # type: ignore[misc]


class Specific(TypedDict):
    """The versions of a list."""

    __pydantic_config__ = _NO_OTHER_KEYS  # type: ignore[misc]

    versions: Annotated[
        tuple[Count, ...],
        Field(min_length=1, description="The numbers of the versions that are served."),
        unique("the versions"),
    ]


class VersionPolicy(TypedDict, total=False):
    """Which versions of the model are served: exactly one of the keys."""

    __pydantic_config__ = _ONE_KEY  # type: ignore[misc]

    latest: Annotated[Latest, Field(description="The newest versions.")]
    all: Annotated[All, Field(description="All versions.")]
    specific: Annotated[Specific, Field(description="The versions of a list.")]


def _check_one(value: VersionPolicy) -> VersionPolicy:
    if len(value) != 1:
        raise wrong(f"must have exactly one of latest, all, specific; got {', '.join(value) or 'none'}")
    return value


@tagged
def _on_or_off(value: Json) -> str:
    return "off" if isinstance(value, bool) else "on"


def _check_warmup(value: Json) -> Json:
    if value in ("auto", "off") or isinstance(value, list):
        return value
    raise wrong(f"must be 'auto', 'off' or a list, got {show(value)}{did_you_mean(value, ('auto', 'off'))}")


def _is_empty(value: Sized) -> bool:
    return not value


class StepServing(Section):
    """How Triton runs a step that pipeline auto made."""

    instance_group: Annotated[tuple[InstanceGroup, ...], Field(min_length=1)] | None = None
    """Copies of the step that run at the same time. Left out: one."""

    parameters: FrozenMapping[str, str] = Frozen()
    """The step's parameters, such as tokenizer_threads; all values are strings."""


class Serving(Section):
    """How Triton schedules and runs the model."""

    max_batch_size: Annotated[int, Field(ge=0, le=INT32_MAX)] | None = None
    """The largest batch that Triton forms, at most shapes.batch.max, which is also the default. 0, in a step of a
    pipeline alone: requests have no batch axis."""

    dynamic_batching: (
        Annotated[
            Annotated[DynamicBatching, Tag("<on>")] | Annotated[Literal[False], Tag("<off>")],
            Discriminator(_on_or_off),
        ]
        | None
    ) = None
    """How single requests are gathered into batches; false: not at all. Left out: gathered, without waiting."""

    sequence_batching: Annotated[Json, PlainSerializer(names_only)] = from_triton("sequence_batching")
    """Instead of dynamic_batching, for stateful models: all requests of a sequence go to the same copy. Times in
    microseconds; data_file of an initial_state is a path relative to the recipe."""

    instance_group: Annotated[tuple[InstanceGroup, ...], Field(min_length=1)] | None = None
    """Copies of the model that run at the same time. Left out: chosen from the target's hardware."""

    response_cache: ResponseCache = ResponseCache()
    """Triton's cache of answers to equal requests."""

    model_warmup: Annotated[
        Json,
        AfterValidator(_check_warmup),
        PlainSerializer(names_only),
        Field(json_schema_extra=WarmupSchema("model_warmup")),
    ] = "auto"
    """auto: real samples run through the model before it is ready; off: none; or a list of what is to run, where
    input_data_file is a path relative to the recipe, to raw little-endian values."""

    version_policy: Annotated[VersionPolicy, AfterValidator(_check_one)] | None = None
    """Which versions of the model are served. Left out: the newest."""

    parameters: FrozenMapping[str, str] = Frozen()
    """The model's parameters for its backend, such as intra_op_thread_count; all values are strings."""

    input: Json = from_triton("input")
    """What is not a fact of the graph, by the name of an input: allow_ragged_batch, optional, format, reshape (then
    dims, too: the shape that clients send)."""

    output: Json = from_triton("output")
    """What is not a fact of the graph, by the name of an output: reshape; label_filename: the model's labels are
    written into a file of that name, so that clients can ask for classes."""

    batch_input: Json = from_triton("batch_input")
    """Inputs of the graph that Triton makes from the requests of a batch, for ragged batches."""

    batch_output: Json = from_triton("batch_output")
    """Outputs of the graph that Triton cuts into those of the requests in another way than by rows."""

    optimization: Json = from_triton("optimization")
    """graph.level, priority, cuda graphs, execution_accelerators, pinned memory, gather_kernel_buffer_threshold
    (number of buffers), eager_batching."""

    model_transaction_policy: Json = from_triton("model_transaction_policy")
    """decoupled: whether a request may get any number of answers."""

    model_repository_agents: Json = from_triton("model_repository_agents")
    """Agents that handle the model's files before they are loaded, such as checksum."""

    model_metrics: Json = from_triton("model_metrics")
    """Buckets of the model's latency histograms, in milliseconds."""

    metric_tags: Json = from_triton("metric_tags")
    """Labels that the model's metrics carry; all values are strings."""

    runtime: Json = from_triton("runtime")
    """The file name of the backend's library, where it is not the usual one."""

    cc_model_filenames: Json = from_triton("cc_model_filenames")
    """Other model files by the compute capability of the GPU, in quotes: {"8.9": model-l4.plan}."""

    config: dict[str, JsonValue] = Field(default_factory=dict)
    """Raw fields of Triton's ModelConfig, merged last into the model's config.pbtxt."""

    configs: Json = Field(
        default=None, exclude_if=lambda value: value is None, json_schema_extra=VariantsSchema("parameters")
    )
    """Further configs of the model, such as one for each kind of GPU: name → raw fields, merged over the model's
    config.pbtxt into configs/<name>.pbtxt, which the server takes with --model-config-name=<name>."""

    steps: Annotated[FrozenMapping[Literal["tokenize"], StepServing], Field(exclude_if=_is_empty)] = Frozen()
    """The other steps of pipeline auto, by name: {tokenize: {instance_group: [{count: 2}]}}."""
