"""THE ORDER of the stages: read this first.

    recipe ─ source ─ tokenizer ─ trace ─ bind ─ reference ─ check ─ config ─ package ─ pack ─ measure ─ judge

A stage gets its predecessors' artifacts, never their modules. Here, and only here, one artifact is handed to the next
stage. What a stage does is told by its own docstring; what flows, by :mod:`builder.artifacts`.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from builder.config import ConfigureInputs, configure
from builder.core.execute import Executor
from builder.core.report import Silent
from builder.core.workspace import workspace
from builder.errors import EXIT_DONE, EXIT_GATE_FAILED, EXIT_UNVERIFIED, MachineError, RecipeError
from builder.export.bind import Bind
from builder.export.check import Check
from builder.export.reference import Refer
from builder.export.source import Resolve
from builder.export.tokenizer import Tokenizer
from builder.export.trace import Trace
from builder.package import Pack, PackageInputs, collect, deliver, describe, package, with_verdict, write_manifest
from builder.settings import settings
from builder.verify import PASSED, ArchiveFacts, Judge, Measure, load_samples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from builder.artifacts import Archive, Json, OnnxModel, Reference, Source, TokenizerFiles
    from builder.core.report import Reporter, StageTime
    from builder.package import Delivery, Manifest
    from builder.recipe import Recipe

UNVERIFIED: Final = "unverified"
REJECTED: Final = "rejected"
"""Folder below ``--out`` for archives that failed their gate: never beside the good ones."""

STAGES: Final[Mapping[str, str]] = {
    "source": "resolve the model's files and hash them",
    "tokenizer": "serialise the tokenizer, settle the length limit",
    "trace": "trace the architecture to a graph without weights",
    "bind": "bind the graph to the checkpoint's tensors",
    "reference": "ask the Hugging Face model",
    "check": "compare the graph at shapes that were not traced",
    "config": "write config.pbtxt and warm-up data",
    "package": "lay out the model repository",
    "pack": "pack the archive",
    "measure": "serve the archive, compare it, measure it",
    "judge": "hold the figures against tolerances and constraints",
}

SHORTEST: Final = 2
"""Tokens of an empty text, where the tokenizer adds a first and a last one: the default of shapes.sequence.min."""

_EXPORT_LIBRARIES: Final = ("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "onnxruntime")
_NEEDS: Final[Mapping[str, tuple[str, ...]]] = dict.fromkeys(
    ("tokenizer", "trace", "bind", "reference", "check"), _EXPORT_LIBRARIES
)


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """One line of a plan. ``state``: run, depends (on the node before it), blocked."""

    node: str  # recipe/source/model/target/format/stage
    stage: str
    state: str
    why: str


@dataclass(frozen=True, slots=True)
class BuildResult:
    """An archive and what is known of it. ``status``: passed, failed, inconclusive, unverified."""

    delivery: Delivery
    seconds: Mapping[str, float]  # by stage

    @property
    def archive(self) -> Archive:
        return self.delivery.archive

    @property
    def manifest(self) -> Manifest:
        return self.delivery.manifest

    @property
    def status(self) -> str:
        return self.manifest.verification.status

    def as_json(self) -> Json:
        """The result for ``--json``: stable keys, absolute paths."""
        manifest = self.manifest
        return {
            "name": manifest.name,
            "target": manifest.target.name,
            "status": self.status,
            "reasons": list(manifest.measured.reasons),
            "archive": str(self.archive.file.path.absolute()),
            "manifest": str(self.delivery.manifest_path),
            "sha256": self.archive.file.sha256,
            "tree_digest": self.archive.tree_digest,
            "size": self.archive.file.size,
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
            "verification": manifest.verification.model_dump(mode="json"),
            "parity": manifest.measured.model_dump(mode="json")["parity"],
            "perf": manifest.measured.model_dump(mode="json")["perf"],
        }


@dataclass(frozen=True, slots=True)
class _Clock:
    """Passes the executor's reports on, and keeps the times of this target."""

    reporter: Reporter
    seconds: dict[str, float]

    def started(self, node: str) -> None:
        self.reporter.started(node)

    def finished(self, time: StageTime) -> None:
        self.seconds[time.stage] = time.seconds
        self.reporter.finished(time)

    def failed(self, node: str, seconds: float) -> None:
        self.reporter.failed(node, seconds)


@dataclass(frozen=True, slots=True)
class _Destination:
    """Where results go, and whether they are proven first."""

    out: Path
    cache: Path
    verify: bool


@dataclass(frozen=True, slots=True)
class _Exported:
    """What the target-independent half of the pipeline gives to the other."""

    source: Source
    tokenizer: TokenizerFiles
    model: OnnxModel
    reference: Reference


def selected_targets(recipe: Recipe, names: Sequence[str]) -> tuple[str, ...]:
    """The targets to build: all of the recipe, or the named ones in the recipe's order.

    Raises:
        RecipeError: a name is not among the recipe's targets.
    """
    unknown = [name for name in names if name not in recipe.targets]
    if unknown:
        known = ", ".join(recipe.targets)
        raise RecipeError(f"{recipe.path}: --target {unknown[0]}: no such target; allowed: {known}")
    return tuple(name for name in recipe.targets if not names or name in names)


def node_prefix(recipe: Recipe, target: str) -> str:
    """First parts of the node ids: ``recipe/source/model/target/format``."""
    return f"{recipe.name}/{recipe.source.kind}/{recipe.task}/{target}/{recipe.package.formats[0]}"


def plan(recipe: Recipe, targets: Sequence[str] = ()) -> tuple[PlannedNode, ...]:
    """What a build would do, in order, without doing any of it.

    Raises:
        UserError: the recipe names a target, a Triton release or a field that does not exist.
    """
    nodes: list[PlannedNode] = []
    for target in selected_targets(recipe, targets):
        configure(recipe, target)
        blocked = ""
        for index, stage in enumerate(STAGES):
            missing = [name for name in _NEEDS.get(stage, ()) if importlib.util.find_spec(name) is None]
            if missing and not blocked:
                blocked = f"not installed: {', '.join(missing)} (pip install 'tritonsmith[export]')"
            state = "blocked" if blocked else "run" if index == 0 else "depends"
            node = f"{node_prefix(recipe, target)}/{stage}"
            nodes.append(PlannedNode(node, stage, state, blocked or STAGES[stage]))
    return tuple(nodes)


def build(
    recipe: Recipe,
    targets: Sequence[str] = (),
    *,
    out: Path,
    verify: bool = True,
    reporter: Reporter = Silent(),  # noqa: B008 - it has no state
) -> tuple[BuildResult, ...]:
    """Builds, proves and delivers one archive for each target.

    Args:
        recipe: what to build.
        targets: names of targets; empty: all of the recipe.
        out: folder for the archives; those that fail their gate go to ``out/rejected``.
        verify: serve, compare and measure; without it the archives are *unverified*.
        reporter: who is told of each stage.

    Raises:
        TritonsmithError: a stage failed; nothing of that target is delivered.
    """
    chosen = selected_targets(recipe, targets)
    _require_libraries()
    for target in chosen:
        configure(recipe, target)  # raw fields are checked before anything is built
    cache = settings().cache
    results = []
    with workspace(cache) as folder:
        shared: dict[str, float] = {}
        executor = Executor(folder / "export", node_prefix(recipe, chosen[0]), _Clock(reporter, shared))
        exported = _export(recipe, executor)
        for target in chosen:
            seconds = dict(shared)
            executor = Executor(folder / target, node_prefix(recipe, target), _Clock(reporter, seconds))
            delivery = _target(recipe, target, exported, executor, _Destination(out, cache, verify))
            results.append(BuildResult(delivery, seconds))
    return tuple(results)


def _require_libraries() -> None:
    missing = [name for name in _EXPORT_LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise MachineError(f"not installed: {', '.join(missing)}", mend="pip install 'tritonsmith[export]'")


def _export(recipe: Recipe, executor: Executor) -> _Exported:
    """The half of the pipeline that knows nothing of the target."""
    task, shapes = recipe.task, recipe.shapes
    samples = load_samples(recipe.verify.samples, text_pair=recipe.inputs.text_pair)
    source = executor.run(Resolve(task), recipe.source)
    tokenizer = executor.run(Tokenizer(task, recipe.inputs.max_length), source)
    graph = executor.run(Trace(task), (source, tokenizer))
    model = executor.run(Bind(task), (graph, source))
    refer = Refer(task, (shapes.batch.min, shapes.batch.max), _sequence(recipe, tokenizer.max_length))
    reference = executor.run(refer, (source, tokenizer, samples))
    checked = executor.run(Check(), (model, reference))
    return _Exported(source, tokenizer, checked, reference)


def _sequence(recipe: Recipe, max_length: int) -> tuple[int, int]:
    """The least and the largest number of tokens that the graph is checked at.

    Raises:
        RecipeError: texts may be longer than the recipe's largest shape.
    """
    stated = recipe.shapes.sequence
    longest = (stated.max if stated else None) or max_length
    if longest < max_length:
        raise RecipeError(
            f"{recipe.path}: shapes.sequence.max is {longest}, but texts may have {max_length} tokens",
            mend=f"set inputs.max_length to {longest}, or shapes.sequence.max to {max_length}",
        )
    return min((stated.min if stated else None) or SHORTEST, longest), longest


def _target(
    recipe: Recipe, target: str, exported: _Exported, executor: Executor, destination: _Destination
) -> Delivery:
    """The half of the pipeline that is done for each target."""
    reference = exported.reference
    inputs = ConfigureInputs(exported.model, exported.tokenizer, reference)
    configs = executor.run(configure(recipe, target), inputs)
    parts = PackageInputs(exported.source, exported.model, exported.tokenizer, configs, reference.labels)
    repository = executor.run(package(recipe, target, destination.cache), parts)
    archive = executor.run(Pack(target), repository)
    manifest = describe(
        recipe, target, source=exported.source, repository=repository, archive=archive, reference=reference
    )
    if destination.verify:
        manifest = _proven(manifest, archive, reference, executor, destination.cache)
    passed = manifest.verification.status in {PASSED, UNVERIFIED}
    return deliver(archive, reference, manifest, destination.out if passed else destination.out / REJECTED)


def _proven(manifest: Manifest, archive: Archive, reference: Reference, executor: Executor, cache: Path) -> Manifest:
    """Measures and judges an archive; the manifest with the verdict."""
    facts = manifest.model_dump(mode="json", include={"repository", "recipe"})
    inputs = ArchiveFacts(
        name=manifest.name,
        archive=archive.file,
        samples=reference.files["samples.jsonl"],
        expected=reference.files["expected.safetensors"],
        tree_digest=archive.tree_digest,
        triton=manifest.target.triton,
        metric=reference.metric,
        outputs=reference.outputs,
        controls=reference.controls,
        max_batch_size=facts["repository"]["max_batch_size"],
        text_pair=facts["recipe"]["view"]["inputs"]["text_pair"],
    )
    gates = manifest.gates
    measurement = executor.run(Measure(cache, gates.concurrency), inputs)
    verdict = executor.run(Judge(gates.tolerances, gates.constraints), measurement)
    return with_verdict(manifest, measurement, verdict)


def verify(path: Path, *, reporter: Reporter = Silent()) -> BuildResult:  # noqa: B008 - it has no state
    """Repeats the proof of an archive from the files beside it; needs no Hugging Face library.

    The manifest beside the archive is replaced by one with the new figures.

    Raises:
        ArchiveError: the archive, or a file beside it, is missing or damaged.
        MachineError: the server, or this machine, failed.
    """
    delivery = collect(path)
    cache = settings().cache
    seconds: dict[str, float] = {}
    with workspace(cache) as folder:
        executor = Executor(folder, delivery.manifest.name, _Clock(reporter, seconds))
        manifest = _proven(delivery.manifest, delivery.archive, delivery.reference, executor, cache)
    write_manifest(delivery.manifest_path, manifest)
    return BuildResult(replace(delivery, manifest=manifest), seconds)


def exit_code(results: Sequence[BuildResult], *, asked_unverified: bool = False) -> int:
    """The command's exit code: a failed gate counts more than something unverified."""
    statuses = {result.status for result in results}
    if statuses - {PASSED, UNVERIFIED}:
        return EXIT_GATE_FAILED
    return EXIT_UNVERIFIED if UNVERIFIED in statuses and not asked_unverified else EXIT_DONE
