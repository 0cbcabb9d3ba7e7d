"""The manifest beside an archive: what it is, what it was made of and with, and how it was proven.

The same build writes the same manifest, but for what is below ``measured``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from builder import __version__
from builder.errors import BlockedError
from builder.package.formats import named
from builder.tools import gpus
from builder.tools.wheels import needed_python

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.artifacts import Json

SCHEMA_VERSION: Final = 1

Status: TypeAlias = Literal["passed", "failed", "inconclusive", "unverified"]
Metric: TypeAlias = Literal["cosine", "single-label", "multi-label", "regression", "logits", "pipeline"]
Sha256: TypeAlias = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Size: TypeAlias = Annotated[int, Field(ge=0)]
Facts: TypeAlias = dict[str, JsonValue]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class FileFacts(_Part):
    """A file by its content."""

    sha256: Sha256
    size: Size  # bytes


def _is_none(value: object) -> bool:
    return value is None


class RecipeFacts(_Part):
    """What was asked."""

    file: str  # name of the recipe's file
    view: Facts  # all that can change the archive or this manifest, defaults included
    overrides: tuple[str, ...]  # the --set values, which are in the view
    # the file of settings that a sweep found: name, sha256, and what it changed in the view
    tuned: Annotated[Facts | None, Field(exclude_if=_is_none)] = None


class TargetFacts(_Part):
    """What the archive is for."""

    name: str
    runtime: str
    precision: str
    triton: str  # release: 25.09
    vcpus: int | None  # None: those of the machine that built it


class EngineFacts(_Part):
    """What was compiled for the target's GPUs, and what a machine needs to run it."""

    runtime: str  # tensorrt | tensorrt-rtx
    library: str  # version that compiled it, and has to load it
    plans: dict[str, FileFacts]  # by compute capability
    profiles: tuple[Facts, ...]
    inputs: tuple[Facts, ...]
    outputs: tuple[Facts, ...]
    record: Facts  # versions, flags, build time, timing cache
    serving: Facts  # of the Triton release: its CUDA and TensorRT, the least driver


class Gates(_Part):
    """What the archive is held against."""

    tolerances: dict[str, float]
    constraints: dict[str, float]
    concurrency: tuple[int, ...]  # requests in flight, of the speed measurements


class SourceFacts(_Part):
    """Where the model comes from."""

    kind: str
    model_id: str
    revision: str | None
    licence: str | None
    files: dict[str, FileFacts]


class ExportFacts(_Part):
    """How the model and the tokenizer came to be."""

    opset: int
    model: Facts  # tensors bound to the author's files; those embedded, and why; checks; the export and its versions
    tokenizer: Facts  # where each limit and setting was read


class ModelFacts(_Part):
    """A model of a pipeline."""

    task: str
    source: SourceFacts
    export: ExportFacts


class ArchiveFacts(_Part):
    """What is handed out: an archive; or, in formats that are not packed, a folder."""

    file: str  # name of the archive or folder
    format: str
    sha256: Sha256  # of the compressed bytes; a folder has none of its own: its tree digest
    size: Size  # bytes that are handed out; of a folder, those of all its files: its unpacked_size
    tree_digest: Sha256  # sha256 over (path, size, sha256) of all members: the identity
    unpacked_size: Size
    members: dict[str, FileFacts]

    @property
    def is_folder(self) -> bool:
        """Whether it is no archive.

        Raises:
            ArchiveError: the format is of a later tritonsmith.
        """
        return named(self.format).is_folder


class ReferenceFacts(_Part):
    """What the archive's answers are compared with."""

    metric: Metric
    outputs: tuple[str, ...]
    controls: tuple[str, ...]
    labels: tuple[str, ...]
    samples: FileFacts
    expected: FileFacts
    texts: FileFacts | None = None  # expected BYTES outputs of a pipeline
    record: Facts


class Verification(_Part):
    """How the archive was proven."""

    status: Status
    stand_ins: tuple[JsonValue, ...] = ()  # in what the verified server differs from production
    overrides: tuple[JsonValue, ...] = ()  # configs that were changed at load


class Measured(_Part):
    """Figures: they belong to the machine and the hour."""

    parity: Facts = {}
    perf: tuple[Facts, ...] = ()
    server: Facts = {}
    hardware: Facts = {}
    reasons: tuple[str, ...] = ()
    figures: Facts = {}


class Manifest(_Part):
    """The content of ``<archive>.manifest.json``."""

    schema_version: Literal[1] = 1
    created_by: str = f"tritonsmith {__version__}"
    name: str
    task: str
    target: TargetFacts
    recipe: RecipeFacts
    source: SourceFacts | None = None  # None: of each of the models
    export: ExportFacts | None = None
    precision: Facts = {}  # asked, used, what was kept in fp32, and the ledger of answers after each pass
    engine: EngineFacts | None = None
    models: dict[str, ModelFacts] = {}  # of a pipeline
    archive: ArchiveFacts
    environment: dict[str, str] = {}  # variables that a host's container needs
    repository: Facts  # models, tensors, instances, labels, wheels
    reference: ReferenceFacts
    provenance: FileFacts | None = None  # these two: None in manifests of earlier versions
    sbom: FileFacts | None = None
    tools: dict[str, str]
    gates: Gates
    verification: Verification = Verification(status="unverified")
    measured: Measured = Measured()

    @property
    def max_batch_size(self) -> int:
        """Texts in one request at most."""
        return int(str(self.repository["max_batch_size"]))

    @property
    def text_pair(self) -> bool:
        """Whether a request holds two texts."""
        return self.repository["text_pair"] is True

    @property
    def libraries(self) -> tuple[str, ...]:
        """What a server needs to run its plans, for pip."""
        if self.engine is None:
            return ()
        from builder.tools.compatibility import serving_libraries

        return serving_libraries(self.target.triton, self.engine.runtime, self.engine.library)

    def check_gpus(self, path: Path) -> None:
        """Checks that this machine has the GPUs that the archive's plans are for.

        Raises:
            BlockedError: it has not.
        """
        if self.engine is not None and (missing := gpus.missing(tuple(self.engine.plans))):
            raise BlockedError(f"{path}: a plan of {self.engine.runtime} needs {missing}", mend="go where that is")

    @property
    def python(self) -> tuple[int, int] | None:
        """The only Python that its steps run on: see :func:`only_python`."""
        return only_python(self.repository)

    @property
    def load_models(self) -> tuple[str, ...]:
        """What a server in explicit mode has to load by name; empty: what clients call brings the rest with it."""
        stated = self.repository.get("load_models")
        return tuple(map(str, stated)) if isinstance(stated, list) else ()


def only_python(repository: Mapping[str, Json]) -> tuple[int, int] | None:
    """The minor version of Python that the steps of a repository run on alone; None: any.

    Args:
        repository: its record: file names of the packages that its steps have, and whose environment they bring.
    """
    if isinstance(stated := repository.get("python"), list | tuple):
        major, minor = stated
        return int(str(major)), int(str(minor))
    named = repository.get("wheels")
    return needed_python(named) if isinstance(named, dict) else None
