"""The model files behind a config: which backend, which versions are loaded, what their headers say."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from builder.errors import ModelError
from builder.lint.archive_tree import ArchiveTree
from builder.lint.backend import ENSEMBLE, completed, is_ensemble
from builder.tools import onnx_header

if TYPE_CHECKING:
    from builder.lint.model import Model
    from builder.tools.onnx_facts import ExternalFile, OnnxHeader

Message: TypeAlias = Any

ONNXRUNTIME: Final = "onnxruntime"
TENSORRT: Final = "tensorrt"

DEFAULT_FILES: Final = {ONNXRUNTIME: "model.onnx", TENSORRT: "model.plan"}

BUILT_IN: Final = frozenset({
    "", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview", "ai.onnx.preview.training", "com.microsoft",
    "com.microsoft.experimental", "com.microsoft.nchwc", "com.microsoft.dml", "com.ms.internal.nhwc",
    "org.pytorch.aten", "trt.plugins",
})  # fmt: skip
"""Domains of operators that onnxruntime and its accelerators bring along."""


@dataclass(frozen=True, slots=True)
class Graph:
    """An ONNX file that a model loads.

    Args:
        version: the model's version.
        path: of the file in the tree.
        header: what it says; None where it cannot be read.
        problem: why it cannot be read.
    """

    version: int
    path: str
    header: OnnxHeader | None
    problem: str = ""

    @property
    def folder(self) -> str:
        """The folder of the file: where its external data lies."""
        return self.path.rpartition("/")[0]


def backend(model: Model) -> str:
    """The backend of a model: as its config says, or as the server guesses from its files; empty if unknown."""
    if model.config is None:
        return ""
    if model.config.platform == ENSEMBLE or is_ensemble(model):
        return ENSEMBLE
    return completed(model).backend


def model_file(model: Model) -> str:
    """The name of the file that the backend loads from each version folder."""
    return completed(model).filename or DEFAULT_FILES.get(backend(model), "")


def graphs(model: Model) -> tuple[Graph, ...]:
    """The ONNX files that are loaded; none where the model is for another backend. Read once."""
    known: tuple[Graph, ...] | None = model.memo.get("graphs")
    if known is None:
        known = model.memo["graphs"] = _graphs(model) if backend(model) == ONNXRUNTIME else ()
    return known


def headers(model: Model) -> tuple[tuple[Graph, OnnxHeader], ...]:
    """The graphs whose header could be read, each with it."""
    return tuple((graph, graph.header) for graph in graphs(model) if graph.header is not None)


def _graphs(model: Model) -> tuple[Graph, ...]:
    found = []
    for version in model.loaded_versions:
        path = model.path(f"{version}/{model_file(model)}")
        if model.tree.is_folder(path):
            path = f"{path}/model.onnx"
        if model.tree.is_file(path):
            found.append(_graph(model, version, path))
    return tuple(found)


def _graph(model: Model, version: int, path: str) -> Graph:
    size = model.tree.entries[path].size
    try:
        if isinstance(model.tree, ArchiveTree):
            header = model.tree.onnx(path)
            if isinstance(header, ModelError):
                raise header
        else:
            with model.tree.open(path) as stream:
                header = onnx_header.read_onnx_stream(stream, size, place=path)
                if set(header.opsets) - BUILT_IN or _lacks_data(model, path, header):  # nodes take time to read
                    stream.seek(0)
                    header = onnx_header.read_onnx_stream(stream, size, place=path, operators=True)
    except ModelError as error:
        return Graph(version, path, None, error.message.partition(": ")[2])
    return Graph(version, path, header)


def location(path: str, file: ExternalFile) -> str:
    """The path in the tree of the external data of a graph."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), file.location))


def _lacks_data(model: Model, path: str, header: OnnxHeader) -> bool:
    """Whether external data is not whole: then it matters which tensors are used."""
    entries = model.tree.entries
    where = [(location(path, file), file.end) for file in header.external]
    return any(not model.tree.is_file(place) or entries[place].size < end for place, end in where)


def dtype_name(config: Message, number: int) -> str:
    """The name of a DataType, ``FP32`` for TYPE_FP32; empty for an unknown number."""
    value = config.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_number.get(number)
    return value.name.removeprefix("TYPE_") if value else ""


def parameter(config: Message, name: str) -> str | None:
    """The string value of one of the config's parameters; None where it is not set."""
    return config.parameters[name].string_value if name in config.parameters else None
