"""Section ``serving``: how Triton schedules and runs the model. The names are Triton's own (``model_config.proto``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, JsonValue, Tag
from typing_extensions import TypedDict

from builder.recipe.base import Count, Frozen, FrozenMapping, Section, tagged, unique, wrong

if TYPE_CHECKING:
    from builder.artifacts import Json

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


class InstanceGroup(Section):
    """Copies of the model that run at the same time."""

    count: Count = 1
    """How many copies."""

    kind: Literal["KIND_AUTO", "KIND_CPU", "KIND_GPU"] | None = None
    """Where they run. Left out: follows the target."""


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


class Serving(Section):
    """How Triton schedules and runs the model."""

    max_batch_size: Count | None = None
    """The largest batch that Triton forms, at most shapes.batch.max, which is also the default."""

    dynamic_batching: (
        Annotated[
            Annotated[DynamicBatching, Tag("<on>")] | Annotated[Literal[False], Tag("<off>")],
            Discriminator(_on_or_off),
        ]
        | None
    ) = None
    """How single requests are gathered into batches; false: not at all. Left out: gathered, without waiting."""

    instance_group: Annotated[tuple[InstanceGroup, ...], Field(min_length=1)] | None = None
    """Copies of the model that run at the same time. Left out: chosen from the target's hardware."""

    response_cache: ResponseCache = ResponseCache()
    """Triton's cache of answers to equal requests."""

    model_warmup: Literal["auto", "off"] = "auto"
    """auto: real samples run through the model before it is ready; off: none."""

    version_policy: Annotated[VersionPolicy, AfterValidator(_check_one)] | None = None
    """Which versions of the model are served. Left out: the newest."""

    parameters: FrozenMapping[str, str] = Frozen()
    """The model's parameters for its backend, such as intra_op_thread_count; all values are strings."""

    config: dict[str, JsonValue] = Field(default_factory=dict)
    """Raw fields of Triton's ModelConfig, merged last into the model's config.pbtxt."""
