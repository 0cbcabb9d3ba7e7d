"""The bind stage: graph + where the weights lie → a complete ONNX model. Weights that fit are never read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from builder.artifacts import OnnxModel
from builder.core.digest import describe_file
from builder.errors import InternalError
from builder.export import checkpoint
from builder.export.model_files import LIBRARIES_BYTES, code_files, digests, half_bytes, in_folder, transformer_folder
from builder.export.tasks import read_head
from builder.export.versions import versions
from builder.tools import hf, onnx_graph, safetensors_values

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from builder.artifacts import File, Graph, Json, Source
    from builder.export.checkpoint import Stored
    from builder.export.tasks import Head
    from builder.tools.opaque import Array, IrModel

EMBED_LIMIT_BYTES: Final = 16 * 2**20
"""Weights that cannot be bound go into model.onnx up to this size in total, and into a data file of ours above it: a
protobuf file may not exceed 2 GiB, and is read whole."""

DATA_FILE: Final = "model.onnx.data"

_BINDABLE: Final = ("F32", "I64")
"""Stored dtypes that are the graph's own: it is traced in FP32, and integers are not converted."""

_LOADERS: Final = ("torch", "transformers", "safetensors")
"""Libraries that decide what a parameter is that transformers changes when it loads a model."""


@dataclass(frozen=True)
class Bind:
    """Points every parameter of the graph at its bytes inside the model's own safetensors files.

    Args:
        task: the task that was traced.
        embed_limit: bytes; see :data:`EMBED_LIMIT_BYTES`.
    """

    task: str
    embed_limit: int = EMBED_LIMIT_BYTES
    name: ClassVar[str] = "bind"
    version: ClassVar[int] = 1
    apart: ClassVar[bool] = True

    def fingerprint(self, inputs: tuple[Graph, Source]) -> Mapping[str, Json]:
        graph, source = inputs
        head = read_head(source.files, self.task)
        stored = checkpoint.stored_tensors(source.files, head)
        # A parameter that no stored tensor is (key "") may come from any of them.
        keys = set(graph.parameters.values())
        used = {place.file for key, place in stored.items() if key in keys or "" in keys}
        return {
            "graph": graph.files["graph.onnx"].sha256,
            "parameters": dict(graph.parameters),
            # The content, not the header alone: the output refers to these files.
            "weights": {name: source.files[name].sha256 for name in sorted(used)},
            "embed_limit": self.embed_limit,
            "versions": versions("onnx-ir", "onnx", "numpy"),
            **(_loading_facts(source, head) if "" in keys else {}),
        }

    def requires(self, inputs: tuple[Graph, Source]) -> None:
        pass

    def memory(self, inputs: tuple[Graph, Source]) -> int:
        """The graph; values that are stored as FP16 or BF16, and are written as FP32."""
        return LIBRARIES_BYTES + 3 * half_bytes(inputs[1])

    def run(self, inputs: tuple[Graph, Source], out: Path) -> OnnxModel:
        graph, source = inputs
        stored = checkpoint.stored_tensors(source.files, read_head(source.files, self.task))
        model = onnx_graph.load(graph.files["graph.onnx"].path)
        bound, others = _split(graph, stored)
        names = _flat_names({place.file for place in bound.values()})
        for name, place in bound.items():
            onnx_graph.point(model, name, names[place.file], place.span.begin, place.span.end - place.span.begin)
        files: dict[str, File] = {names[file]: source.files[file] for file in names}
        files |= _embed(model, self._values(others, stored, graph, source, out), self.embed_limit, out)
        onnx_graph.save(model, out / "model.onnx")
        files["model.onnx"] = describe_file(out / "model.onnx")
        return OnnxModel(
            files=dict(sorted(files.items())),
            inputs=graph.inputs,
            outputs=graph.outputs,
            opset=graph.opset,
            record={**_record(bound, others, stored, graph), "trace": graph.record},
        )

    def ensures(self, inputs: tuple[Graph, Source], output: OnnxModel) -> None:  # noqa: ARG002 - a stage's signature
        unbound = onnx_graph.unbound(onnx_graph.load(output.files["model.onnx"].path))
        if unbound:
            raise InternalError(f"{len(unbound)} initializers have no data: {', '.join(unbound[:3])}")

    def _values(
        self, others: Mapping[str, str], stored: Mapping[str, Stored], graph: Graph, source: Source, out: Path
    ) -> dict[str, Array]:
        """The values, FP32, of the parameters that cannot be bound."""
        changed = [name for name, key in others.items() if not key]
        values = {}
        for name, key in others.items():
            if key:
                place = stored[key]
                array = safetensors_values.values(source.files[place.file].path, place.span)
                values[name] = safetensors_values.as_float32(array, place.span.dtype)
        if changed:
            head = read_head(source.files, self.task)
            with transformer_folder(source, head.folder, weights=True, below=out) as folder:
                values |= hf.parameter_values(hf.load_model(folder, self.task, remote_code=source.remote_code), changed)
        return {name: values[name] for name in graph.parameters if name in values}


def _loading_facts(source: Source, head: Head) -> dict[str, Json]:
    """What the values of a loaded model depend on, besides its weights."""
    names = [in_folder(head.folder, "config.json"), *code_files(source)]
    return {"loaded": {"files": digests(source.files, names), "versions": versions(*_LOADERS)}}


def _split(graph: Graph, stored: Mapping[str, Stored]) -> tuple[dict[str, Stored], dict[str, str]]:
    """Parameters that can be bound, with their place, and the others, with the name of their tensor or ""."""
    bound: dict[str, Stored] = {}
    others: dict[str, str] = {}
    for name, key in graph.parameters.items():
        if key and key not in stored:
            raise InternalError(
                f"{name}: the graph was traced from a checkpoint that holds {key}, and this one does not"
            )
        if key and stored[key].span.dtype in _BINDABLE:
            bound[name] = stored[key]
        else:
            others[name] = key
    return bound, others


def _flat_names(files: Collection[str]) -> dict[str, str]:
    """A name in the model's folder for each weight file: its own, with dots for slashes.

    Triton's onnxruntime backend loads data files that lie beside model.onnx.
    """
    names: dict[str, str] = {}
    for file in sorted(files):
        name = file.replace("/", ".")
        while name in names.values():
            name = f"_{name}"
        names[file] = name
    return names


def _embed(model: IrModel, values: Mapping[str, Array], limit: int, out: Path) -> dict[str, File]:
    """Puts values into the model's file, or, where they are too large together, into a data file of ours."""
    if sum(array.nbytes for array in values.values()) <= limit:
        for name, array in values.items():
            onnx_graph.embed(model, name, array)
        return {}
    path = out / DATA_FILE
    with path.open("wb") as stream:
        for name, array in values.items():
            offset = stream.tell()
            stream.write(memoryview(array).cast("B"))
            onnx_graph.point(model, name, DATA_FILE, offset, array.nbytes)
    return {DATA_FILE: describe_file(path)}


def _record(
    bound: Mapping[str, Stored], others: Mapping[str, str], stored: Mapping[str, Stored], graph: Graph
) -> dict[str, Json]:
    """How many tensors are bound, how many are not, and why."""
    reasons: dict[str, list[str]] = {}
    for name, key in others.items():
        reason = (
            f"stored as {stored[key].span.dtype}, served as FP32" if key else "transformers changes it when it loads"
        )
        reasons.setdefault(reason, []).append(name)
    return {
        "bound": len(bound),
        "bound_bytes": sum(place.span.end - place.span.begin for place in bound.values()),
        "embedded": {reason: {"count": len(names), "first": names[:3]} for reason, names in sorted(reasons.items())},
        "constants": graph.record.get("constants", 0),
    }
