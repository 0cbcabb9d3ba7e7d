"""Repeats the proof of what was built, from the files beside it: what ``tritonsmith verify`` does."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from builder.building import Clock, open_store
from builder.core.execute import Executor
from builder.core.report import Reporter, Silent
from builder.errors import MachineError
from builder.package import collect, with_verdict, write_manifest
from builder.package.formats.layouts import CONFIG
from builder.recipe.tasks import NEIGHBOURS
from builder.results import BuildResult
from builder.settings import settings
from builder.verify import ArchiveFacts, Judge, Measure, from_packed, from_reference

if TYPE_CHECKING:
    from pathlib import Path

    from builder.package import Delivery, Manifest

log = logging.getLogger(__name__)


def verify(path: Path, *, reporter: Reporter = Silent()) -> BuildResult:  # noqa: B008 - it has no state
    """Repeats the proof of an archive from the files beside it; needs no Hugging Face library.

    The manifest beside the archive is replaced by one with the new figures; where that cannot be written, say in a
    read-only folder or because it is signed, a warning says so, and the verdict is returned all the same.

    Raises:
        ArchiveError: the archive, or a file beside it, is missing or damaged.
        BlockedError: it holds plans for GPUs that are not here.
        MachineError: the server, or this machine, failed.
    """
    delivery = collect(path)
    delivery.manifest.check_gpus(path)
    cache, clock = settings().cache, Clock(reporter)
    executor = Executor(open_store(cache), delivery.manifest.name, clock, fresh=True)
    manifest = _proven(delivery, executor, cache)
    if delivery.seal is None:
        _keep(delivery, manifest)
    else:
        log.warning("the manifest keeps its old figures: it is signed")
    return BuildResult(replace(delivery, manifest=manifest), tuple(clock.times.values()))


def _keep(delivery: Delivery, manifest: Manifest) -> None:
    try:
        write_manifest(delivery.manifest_path, manifest)
    except MachineError as error:
        log.warning("the manifest keeps its old figures: %s", error.message)


def facts_of(delivery: Delivery) -> ArchiveFacts:
    """What a proof has to know of an archive: its manifest says it."""
    manifest = delivery.manifest
    return ArchiveFacts(
        name=manifest.name,
        **from_packed(delivery.archive, delivery.path),
        triton=manifest.target.triton,
        **from_reference(delivery.reference),
        max_batch_size=manifest.max_batch_size,
        text_pair=manifest.text_pair,
        load_models=manifest.load_models,
        neighbours=NEIGHBOURS in manifest.gates.tolerances,
        libraries=manifest.libraries,
        python=manifest.python,
        flat=CONFIG in manifest.archive.members,
    )


def _proven(delivery: Delivery, executor: Executor, cache: Path) -> Manifest:
    """Measures and judges an archive; the manifest with the verdict."""
    manifest = delivery.manifest
    gates = manifest.gates
    measurement = executor.run(Measure(cache, gates.concurrency), facts_of(delivery))
    verdict = executor.run(Judge(gates.tolerances, gates.constraints), measurement)
    return with_verdict(manifest, measurement, verdict)
