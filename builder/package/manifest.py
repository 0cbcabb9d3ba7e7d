"""The manifest beside an archive: what it is, what it was made of and with, and how it was proven.

The same build writes the same manifest, but for what is below ``measured``.
"""

from __future__ import annotations

import contextlib
import json
import platform
from functools import cache
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from builder import __version__
from builder.core.codec import to_json
from builder.core.digest import canonical_json
from builder.errors import ArchiveError, BlockedError, disk_error
from builder.package.formats import arrange
from builder.recipe.tasks import tolerances
from builder.recipe.verify import ONLY_SWEPT
from builder.tools import gpus, installed
from builder.tools.atomic import write
from builder.tools.wheels import needed_python

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.artifacts import (
        Archive,
        Engine,
        File,
        ImageFiles,
        Json,
        Measurement,
        OnnxModel,
        Reference,
        Repository,
        Source,
        TokenizerFiles,
        Verdict,
    )
    from builder.recipe import AnyRecipe, Recipe
    from builder.recipe.composed import Composed

SCHEMA_VERSION: Final = 1
SUFFIX: Final = ".manifest.json"
PIPELINE: Final = "pipeline"
"""Stands for the task where there are several models."""

Status: TypeAlias = Literal["passed", "failed", "inconclusive", "unverified"]
Metric: TypeAlias = Literal["cosine", "single-label", "multi-label", "regression", "logits", "pipeline"]
Sha256: TypeAlias = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Size: TypeAlias = Annotated[int, Field(ge=0)]
Facts: TypeAlias = dict[str, JsonValue]

_TOOLS: Final = (
    "huggingface_hub",
    "isal",
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "onnxscript",
    "protobuf",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
    "tritonclient",
)


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
    """The archive."""

    file: str
    format: str
    sha256: Sha256  # of the compressed bytes
    size: Size
    tree_digest: Sha256  # sha256 over (path, size, sha256) of all members: the archive's identity
    unpacked_size: Size
    members: dict[str, FileFacts]


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


def describe(
    recipe: Recipe,
    target: str,
    *,
    source: Source,
    exported: tuple[OnnxModel, TokenizerFiles, Engine | None],
    repository: Repository,
    archive: Archive,
    reference: Reference,
) -> Manifest:
    """The manifest of an archive that nobody has verified yet."""
    model, tokenizer, engine = exported
    made = describe_model(recipe.task, source, model, tokenizer)
    return Manifest(
        name=recipe.name,
        task=recipe.task,
        target=_target(recipe, target),
        recipe=_recipe(recipe, target),
        source=made.source,
        export=made.export,
        precision=_plain(model.record.get("precision", {})),
        engine=describe_engine(engine, recipe.targets[target].triton) if engine else None,
        archive=_archive(archive, repository),
        environment=dict(arrange(archive.format, repository).environment),
        repository=_plain(repository.record),
        reference=describe_reference(reference),
        tools=_tools(),
        gates=gates(recipe, target, reference.metric),
    )


def describe_composed(
    recipe: Composed,
    target: str,
    models: dict[str, ModelFacts],
    *,
    repository: Repository,
    archive: Archive,
    reference: Reference,
) -> Manifest:
    """The manifest of the archive of a pipeline that nobody has verified yet."""
    return Manifest(
        name=recipe.name,
        task=PIPELINE,
        target=_target(recipe, target),
        recipe=_recipe(recipe, target),
        models=models,
        archive=_archive(archive, repository),
        environment=dict(arrange(archive.format, repository).environment),
        repository=_plain(repository.record),
        reference=describe_reference(reference),
        tools=_tools(),
        gates=gates(recipe, target, reference.metric),
    )


def describe_model(task: str, source: Source, model: OnnxModel, tokenizer: TokenizerFiles | ImageFiles) -> ModelFacts:
    """Where a model comes from, and how it was exported."""
    return ModelFacts(
        task=task,
        source=SourceFacts(
            kind=source.kind,
            model_id=source.model_id,
            revision=source.revision,
            licence=source.licence,
            files={name: _file(file) for name, file in sorted(source.files.items())},
        ),
        export=ExportFacts(
            opset=model.opset,
            model=_plain({key: value for key, value in model.record.items() if key != "precision"}),
            tokenizer=_plain(tokenizer.record),
        ),
    )


def describe_engine(engine: Engine, triton: str) -> EngineFacts:
    """What the manifest says of an engine for a Triton release."""
    from builder.tools.compatibility import serving_facts

    plain = _plain(to_json({name: getattr(engine, name) for name in ("profiles", "inputs", "outputs", "record")}))
    tuples = {name: tuple(plain[name]) for name in ("profiles", "inputs", "outputs")}
    return EngineFacts(
        runtime=engine.runtime,
        library=str(next(iter(engine.record.get("engines", {"only": engine.record}).values()))["version"]),
        plans={capability: _file(engine.files[name]) for capability, name in sorted(engine.plans.items())},
        record={key: value for key, value in plain["record"].items() if key != "precision"},  # which is told above
        serving=serving_facts(triton, engine.runtime),
        **tuples,
    )


def _recipe(recipe: AnyRecipe, target: str) -> RecipeFacts:
    tuned = recipe.for_target(target)
    facts = recipe.tuned_facts(target)
    return RecipeFacts(file=recipe.path.name, view=tuned.keyed(), overrides=recipe.told, tuned=facts)


def _archive(archive: Archive, repository: Repository) -> ArchiveFacts:
    return ArchiveFacts(
        file=archive.name,
        format=archive.format,
        sha256=archive.file.sha256,
        size=archive.file.size,
        tree_digest=archive.tree_digest,
        unpacked_size=archive.unpacked_size,
        members={name: _file(file) for name, file in arrange(archive.format, repository).members().items()},
    )


def describe_reference(reference: Reference) -> ReferenceFacts:
    """What the manifest says of a reference."""
    texts = reference.files.get("expected.json")
    return ReferenceFacts(
        metric=cast("Metric", reference.metric),  # pydantic holds it against the names
        outputs=reference.outputs,
        controls=reference.controls,
        labels=reference.labels,
        samples=_file(reference.files["samples.jsonl"]),
        expected=_file(reference.files["expected.safetensors"]),
        texts=None if texts is None else _file(texts),
        record=_plain(reference.record),
    )


def attest_facts(manifest: Manifest, provenance: File | None, sbom: File | None) -> Manifest:
    """The manifest of an archive that has provenance and bill of materials beside it."""
    made = {"provenance": provenance and _file(provenance), "sbom": sbom and _file(sbom)}
    return manifest.model_copy(update=made)


def with_verdict(manifest: Manifest, measurement: Measurement | None, verdict: Verdict) -> Manifest:
    """The manifest after a verification; what an earlier one found is replaced."""
    server = dict(measurement.server) if measurement else {}
    verification = {
        "status": verdict.status,
        "stand_ins": server.pop("stand_ins", ()),
        "overrides": server.pop("overrides", ()),
    }
    measured = {
        "parity": measurement.parity if measurement else {},
        "perf": measurement.perf if measurement else (),
        "server": server,
        "hardware": measurement.hardware if measurement else {},
        "reasons": verdict.reasons,
        "figures": verdict.figures,
    }
    data = manifest.model_dump(mode="json") | {"verification": verification, "measured": measured}
    return Manifest.model_validate_json(json.dumps(data))


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Writes a manifest, whole or not at all. One that says the same already is left.

    Raises:
        MachineError: the disk is full or cannot be written.
    """
    data = manifest.model_dump(mode="json")
    with contextlib.suppress(OSError, ValueError):
        if canonical_json(json.loads(path.read_bytes())) == canonical_json(data):
            return
    text = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, text.encode() + b"\n")
    except OSError as error:
        raise disk_error(path, error) from error


def read_manifest(path: Path) -> Manifest:
    """Reads a manifest.

    Raises:
        ArchiveError: it is missing, damaged, or of a later tritonsmith, or does not say what the answers of its metric
            are held against.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArchiveError(
            f"{path}: the archive's manifest cannot be read: {error.strerror}",
            mend="keep the archive and the files beside it together",
        ) from error
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise ArchiveError(
            f"{path}: {_problem(data, error)}", mend="fetch it again, or build the archive again"
        ) from error
    _check_tolerances(path, manifest)
    return manifest


def _check_tolerances(path: Path, manifest: Manifest) -> None:
    """A tolerance that is left out would be a figure that nothing is held against."""
    metric, precision = manifest.reference.metric, manifest.target.precision
    try:
        wanted = tolerances(metric, precision)
    except KeyError:
        raise ArchiveError(
            f"{path}: target.precision: this tritonsmith has no tolerances for {metric} at {precision!r}",
            mend="take the tritonsmith that built the archive, or build it again",
        ) from None
    missing = sorted(wanted.keys() - manifest.gates.tolerances.keys())
    if missing:
        raise ArchiveError(
            f"{path}: gates.tolerances: {', '.join(missing)} is missing; {metric} is held against {', '.join(wanted)}",
            mend="fetch it again, or build the archive again",
        )


def _problem(data: bytes, error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if place == "schema_version":
        return f"has schema version {first['input']!r}; this tritonsmith reads {SCHEMA_VERSION}"
    if not place:
        return f"is no manifest: {first['msg']} ({len(data)} bytes)"
    return f"{place}: {first['msg']}, got {str(first['input'])[:60]!r}"


def _file(file: File) -> FileFacts:
    return FileFacts(sha256=file.sha256, size=file.size)


def _target(recipe: AnyRecipe, name: str) -> TargetFacts:
    target = recipe.for_target(name).targets[name]
    return TargetFacts(
        name=name,
        runtime=target.runtime,
        precision=target.precision,
        triton=target.triton,
        vcpus=target.hardware.vcpus,
    )


def gates(recipe: AnyRecipe, target: str, metric: str) -> Gates:
    """What an archive is held against; written down, so that other defaults of a later tritonsmith change no proof."""
    asked = recipe.for_target(target).targets[target]
    return Gates(
        tolerances={**tolerances(metric, asked.precision, tf32=asked.tf32), **recipe.verify.parity},
        constraints=recipe.verify.constraints.model_dump(exclude_none=True, exclude=set(ONLY_SWEPT)),
        concurrency=recipe.verify.sweep.concurrency,
    )


def _plain(record: Json) -> Json:
    """JSON data as a file would give it back: lists, no tuples."""
    return json.loads(json.dumps(record))


@cache
def _tools() -> dict[str, str]:
    """Versions of what had a hand in it; what is not installed had none. Looked up once."""
    found = {name: installed.version(name) for name in _TOOLS}
    versions = {"python": platform.python_version(), "tritonsmith": __version__}
    return dict(sorted({**versions, **{name: version for name, version in found.items() if version}}.items()))
