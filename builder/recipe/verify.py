"""Sections ``verify`` and ``package``: how the archive is proven, and how it is packed."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from builder.recipe.base import Count, Frozen, FrozenMapping, RecipePath, Section, ascending, unique

Milliseconds = Annotated[float, Field(gt=0)]


class Sweep(Section):
    """Under which load the archive is measured."""

    concurrency: Annotated[tuple[Count, ...], Field(min_length=1), AfterValidator(ascending)] = (1, 4, 16)
    """Requests in flight at the same time, ascending: one measurement each."""


class Constraints(Section):
    """What the measurement must reach, or the build fails."""

    p50_ms: Milliseconds | None = None
    """The largest median latency, in milliseconds."""

    p95_ms: Milliseconds | None = None
    """The largest 95th percentile of the latency, in milliseconds."""

    p99_ms: Milliseconds | None = None
    """The largest 99th percentile of the latency, in milliseconds."""

    min_throughput: Annotated[float, Field(gt=0)] | None = None
    """The least throughput, in inferences per second."""


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
