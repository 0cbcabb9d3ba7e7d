"""What a build says of an archive: its manifest, before and after it was verified."""

from __future__ import annotations

import json
import platform
from functools import cache
from typing import TYPE_CHECKING, Final, cast

from builder import __version__
from builder.core.codec import to_json
from builder.package.formats import arrange
from builder.package.manifest import (
    ArchiveFacts,
    EngineFacts,
    ExportFacts,
    FileFacts,
    Gates,
    Manifest,
    ModelFacts,
    RecipeFacts,
    ReferenceFacts,
    SourceFacts,
    TargetFacts,
)
from builder.recipe.tasks import tolerances
from builder.recipe.verify import ONLY_SWEPT
from builder.tools import installed

if TYPE_CHECKING:
    from builder.artifacts import (
        Engine,
        File,
        ImageFiles,
        Json,
        Measurement,
        OnnxModel,
        Packed,
        Reference,
        Repository,
        Source,
        TokenizerFiles,
        Verdict,
    )
    from builder.package.manifest import Metric
    from builder.recipe import AnyRecipe, Recipe
    from builder.recipe.composed import Composed

PIPELINE: Final = "pipeline"
"""Stands for the task where there are several models."""

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


def describe(
    recipe: Recipe,
    target: str,
    *,
    source: Source,
    exported: tuple[OnnxModel, TokenizerFiles, Engine | None],
    repository: Repository,
    archive: Packed,
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
    archive: Packed,
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
    view, facts = recipe.for_target(target).keyed(), recipe.tuned_facts(target)
    return RecipeFacts(file=recipe.path.name, view=view, overrides=recipe.told, tuned=facts)


def _archive(archive: Packed, repository: Repository) -> ArchiveFacts:
    return ArchiveFacts(
        file=archive.name,
        format=archive.format,
        sha256=archive.sha256,
        size=archive.size,
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
