"""Runs the export stages on a folder, for tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.artifacts import Graph, OnnxModel, Reference, Sample, Source, TokenizerFiles
from builder.core.digest import describe_folder
from builder.core.execute import Executor
from builder.core.store import Store
from builder.export.bind import Bind
from builder.export.check import Check
from builder.export.processor import Processor
from builder.export.reference import Refer
from builder.export.reference_images import ReferImages
from builder.export.tokenizer import Tokenizer
from builder.export.trace import Trace
from builder.tools.safetensors_values import load_arrays
from tests.models import TEXTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Export:
    """All artifacts of one export."""

    folder: Path
    source: Source
    tokenizer: Any  # TokenizerFiles, or ImageFiles
    graph: Graph
    model: OnnxModel
    reference: Reference

    @property
    def expected(self) -> dict[str, Any]:
        return load_arrays(self.reference.files["expected.safetensors"].path)


def source_of(folder: Path, *, remote_code: bool = False) -> Source:
    return Source("path", folder.name, None, None, describe_folder(folder), remote_code)


def trace(
    folder: Path, task: str, work: Path, max_length: int | None = None, *, remote_code: bool = False
) -> tuple[Source, TokenizerFiles, Graph]:
    source, executor = source_of(folder, remote_code=remote_code), Executor(Store.at(work), "test")
    tokenizer = executor.run(Tokenizer(task, max_length=max_length), source)
    return source, tokenizer, executor.run(Trace(task), (source, tokenizer))


def refer(
    source: Source, tokenizer: TokenizerFiles, task: str, work: Path, samples: Sequence[Sample] = ()
) -> Reference:
    stage = Refer(task, batch=(1, 5), sequence=(2, tokenizer.max_length))
    return Executor(Store.at(work), "test").run(stage, (source, tokenizer, samples or [Sample(text) for text in TEXTS]))


def export(folder: Path, task: str, work: Path, samples: Sequence[Sample] = (), *, remote_code: bool = False) -> Export:
    """Runs everything from the tokenizer to the check."""
    source, tokenizer, graph = trace(folder, task, work, remote_code=remote_code)
    model = Executor(Store.at(work), "test").run(Bind(task), (graph, source))
    reference = refer(source, tokenizer, task, work, samples)
    checked = Executor(Store.at(work), "test").run(Check(), (model, reference))
    return Export(folder, source, tokenizer, graph, checked, reference)


def export_images(folder: Path, task: str, work: Path, samples: Sequence[Sample]) -> Export:
    """Runs everything from the image processor to the check."""
    source, run = source_of(folder), Executor(Store.at(work), "test").run
    images = run(Processor(task), source)
    graph = run(Trace(task), (source, images))
    model = run(Bind(task), (graph, source))
    reference = run(ReferImages(task, batch=(1, 5)), (source, images, samples))
    return Export(folder, source, images, graph, run(Check(), (model, reference)), reference)
