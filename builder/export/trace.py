"""The trace stage: architecture → graph without weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from builder.artifacts import Graph
from builder.core.digest import describe_file, digest_json
from builder.errors import InternalError, ModelError
from builder.export import checkpoint, example
from builder.export.model_files import (
    code_files,
    digests,
    in_folder,
    needed_memory,
    read_object,
    transformer_folder,
    weight_files,
)
from builder.export.tasks import Head, read_head
from builder.export.versions import versions
from builder.tools import hf, onnx_graph
from builder.tools.heads import Dense, LayerNorm

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.artifacts import Json, Source
    from builder.export.example import Files
    from builder.tools.opaque import HfModel, TorchModule

_LIBRARIES: Final = ("torch", "transformers", "onnx", "onnx-ir", "onnxscript")

_COSMETIC: Final = frozenset({"_name_or_path", "transformers_version", "torch_dtype", "dtype", "label2id", "id2label"})
"""Keys of config.json that cannot change the graph: the trace is FP32 whatever the checkpoint's dtype. Of the labels
their number counts. Every other key counts, known or not."""


@dataclass(frozen=True)
class Trace:
    """Traces the model with its head, for any batch and sequence length.

    Args:
        task: of :data:`builder.recipe.tasks.TASKS`.
        opset: version of the ONNX operator set; 20 is the first with Gelu.
    """

    task: str
    opset: int = 20
    name: ClassVar[str] = "trace"
    version: ClassVar[int] = 2
    apart: ClassVar[bool] = True

    def fingerprint(self, inputs: tuple[Source, Files]) -> Mapping[str, Json]:
        source, made = inputs
        head = read_head(source.files, self.task)
        return {
            "task": self.task,
            "opset": self.opset,
            "config": _config_facts(source, head),
            "code": digests(source.files, code_files(source)),
            "head": [[type(step).__name__, str(step)] for step in head.steps],
            "header": digest_json(checkpoint.header_facts(source.files, head)),
            **example.facts(made),
            "versions": versions(*_LIBRARIES),
        }

    def requires(self, inputs: tuple[Source, Files]) -> None:
        source, _ = inputs
        head = read_head(source.files, self.task)
        checkpoint.stored_tensors(source.files, head)

    def memory(self, inputs: tuple[Source, Files]) -> int:
        """Of the weights hardly a page is read; what the tracer makes for each layer is what grows."""
        return needed_memory(inputs[0], copies=0.25)

    def run(self, inputs: tuple[Source, Files], out: Path) -> Graph:
        source, made = inputs
        head = read_head(source.files, self.task)
        with transformer_folder(source, head.folder, weights=True, below=out) as folder:
            from builder.tools import torch_export

            module = _module(source, made, head, hf.load_model(folder, self.task, remote_code=source.remote_code))
            graph = torch_export.export(module, example.arrays(module.model, made), head.outputs, self.opset)
            parameters = checkpoint.match(module, onnx_graph.initializer_names(graph), head, source.files)
        onnx_graph.clean(graph, parameters)
        names = onnx_graph.initializer_names(graph)
        parameters = {name: parameters[name] for name in names if name in parameters}
        _refuse_untrained(module.model, parameters, self.task)
        onnx_graph.unbind(graph, parameters)
        path = out / "graph.onnx"
        onnx_graph.save(graph, path)
        return Graph(
            files={path.name: describe_file(path)},
            inputs=onnx_graph.tensors(graph.graph.inputs),
            outputs=onnx_graph.tensors(graph.graph.outputs),
            opset=self.opset,
            parameters=parameters,
            record={
                "exporter": "torch.onnx.export(dynamo=True)",
                "architecture": type(module.model).__name__,
                "head": head.record,
                "constants": len(names) - len(parameters),
                "versions": versions(*_LIBRARIES),
            },
        )

    def ensures(self, inputs: tuple[Source, Files], output: Graph) -> None:
        _, made = inputs
        if tuple(tensor.name for tensor in output.inputs) != made.input_names:
            raise InternalError(f"traced inputs {output.inputs} are not {made.input_names}")
        if any(tensor.shape[0] != -1 for tensor in (*output.inputs, *output.outputs)):
            raise InternalError(f"the traced batch is frozen: {output.inputs} {output.outputs}")


def _module(source: Source, made: Files, head: Head, model: HfModel) -> TorchModule:
    from builder.tools import torch_heads

    module = torch_heads.with_head(model, head.takes, head.steps, made.input_names, example.padding_side(made))
    for index, step in enumerate(head.steps):
        if isinstance(step, Dense | LayerNorm):
            (name,) = weight_files(source.files, step.folder)
            torch_heads.load_step(module, index, source.files[name].path)
    return module


def _refuse_untrained(model: HfModel, parameters: Mapping[str, str], task: str) -> None:
    """Refuses parameters that transformers made up because the checkpoint has none."""
    missing = [name for name in parameters if name.removeprefix("model.") in model.tritonsmith_missing_keys]
    if missing:
        raise ModelError(
            f"the checkpoint has no weights for {', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}: "
            f"the model was not trained for {task} ({type(model).__name__})",
            mend="take a model that was trained for this task, or another task in the recipe",
        )


def _config_facts(source: Source, head: Head) -> Json:
    config = read_object(source.files, in_folder(head.folder, "config.json"))
    return {**{key: value for key, value in config.items() if key not in _COSMETIC}, "labels": len(head.labels)}
