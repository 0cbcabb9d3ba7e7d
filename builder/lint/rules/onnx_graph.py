"""The config of an ONNX model against its graph, as the C++ onnxruntime backend compares them when it loads.

Sources are files and lines of github.com/triton-inference-server/onnxruntime_backend at 00fd3e8. They cannot be
compared with the server that runs here: its onnxruntime backend is a stand-in of ours. On 2026-11-20 they were compared
with the fixtures of NVIDIA's own tests, whose verdicts are the C++ backend's: server (e1db8a6) qa/L0_model_config,
autofill_noplatform/onnx (7 of 7 refused) and autofill_noplatform_success/onnx (3 of 3 without an error).
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from builder.lint.finding import ADVICE, LOAD_ERROR
from builder.lint.graphs import dtype_name, headers
from builder.lint.rule import Problem, model_rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from builder.lint.graphs import Graph, Message
    from builder.lint.model import Model, World
    from builder.lint.rule import Problems
    from builder.tools.onnx_facts import GraphTensor, OnnxHeader

_DEFAULTS_SINCE_IR: Final = 4


@model_rule(
    "C4",
    LOAD_ERROR,
    "a config's inputs and outputs are those of the graph",
    why="the backend looks each tensor of the config up in the graph, and wants every input of the graph in the config",
    source="onnxruntime_backend src/onnxruntime.cc:1662,1707,1814 (ValidateInputs, ValidateOutputs)",
)
def names(model: Model, _: World) -> Problems:
    for graph, header in headers(model):
        known = [tensor.name for tensor in _takes(header)]
        yield from _unknown(graph, "input", model.config.input, known)
        yield from _unknown(graph, "output", model.config.output, [tensor.name for tensor in header.outputs])
        yield from _missing(graph, model.config, header)


def _unknown(graph: Graph, kind: str, tensors: Iterable[Message], known: Sequence[str]) -> Problems:
    for index, tensor in enumerate(tensors):
        if tensor.name and tensor.name not in known:
            near = difflib.get_close_matches(tensor.name, known, n=1)
            yield Problem(
                f"{kind} {tensor.name!r} is not in {graph.path}, whose {kind}s are {', '.join(known) or 'none'}",
                f"did you mean {near[0]!r}?" if near else f"name one of the graph's {kind}s, or remove it",
                field=f"{kind}[{index}].name",
            )


def _missing(graph: Graph, config: Message, header: OnnxHeader) -> Problems:
    if not config.input:
        return  # auto-complete fills them in; without it, the core refuses the config
    fed = {tensor.name for tensor in config.input if not tensor.optional} | set(_fed_otherwise(config))
    missing = [tensor.name for tensor in header.inputs if tensor.name not in fed]
    if missing:
        yield Problem(
            f"the graph in {graph.path} takes {', '.join(map(repr, missing))}, which the config does not give",
            "add it to input, with the graph's data type and dims",
            field="input",
        )


def _fed_otherwise(config: Message) -> Iterator[str]:
    """The inputs of the graph that no request gives: batch inputs, sequence controls and states."""
    for item in config.batch_input:
        yield from item.target_name
    if config.HasField("sequence_batching"):
        yield from (control.name for control in config.sequence_batching.control_input)
        yield from (state.input_name for state in config.sequence_batching.state)


@model_rule(
    "C5",
    LOAD_ERROR,
    "a tensor's data type is the graph's",
    why="the backend compares them and converts nothing",
    source="onnxruntime_backend src/onnxruntime.cc:1717,1824",
)
def data_types(model: Model, _: World) -> Problems:
    for graph, kind, index, tensor, of_graph in _pairs(model):
        stated = dtype_name(model.config, tensor.data_type)
        if of_graph.kind == "tensor" and stated not in {"", "INVALID", of_graph.dtype}:
            yield Problem(
                f"{kind} {tensor.name!r} has TYPE_{stated}, but {graph.path} has {of_graph.dtype}",
                f"write data_type: TYPE_{of_graph.dtype}",
                field=f"{kind}[{index}].data_type",
            )


@model_rule(
    "C6",
    LOAD_ERROR,
    "dims are the graph's, without the batch axis where max_batch_size is above 0",
    why="with max_batch_size above 0 the backend puts -1 before dims and compares; the graph's first axis must be "
    "dynamic",
    source="onnxruntime_backend src/onnxruntime_utils.cc:491 (CompareDimsSupported), src/onnxruntime.cc:1160",
)
def dims(model: Model, world: World) -> Problems:
    if model.config is None:
        return
    yield from _not_batching(model, world)
    batched = model.config.max_batch_size > 0
    for graph, kind, index, tensor, of_graph in _pairs(model):
        shape = of_graph.dims
        if shape is None or _compared_otherwise(model.config, kind, tensor):
            continue
        stated = tuple(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims)
        if not shape:
            what = "" if all(size == 1 for size in stated) else f"dims {_show(stated)}, but it is a scalar"
        else:
            what = _difference(stated, shape, batched=batched, exact=kind == "output")
        if what:
            yield Problem(
                f"{kind} {tensor.name!r}: {what} in {graph.path}",
                _dims_mend(shape, batched=batched),
                field=f"{kind}[{index}].dims",
            )


def _not_batching(model: Model, world: World) -> Problems:
    """What auto-complete refuses: it looks at all tensors of the graph where the config leaves some out."""
    whole = bool(model.config.input) and bool(model.config.output)
    if whole or world.options.strict or model.config.max_batch_size == 0:
        return
    for graph, header in headers(model):
        fixed = [
            one.name for one in (*header.inputs, *header.outputs) if one.dims is not None and one.dims[:1] != (-1,)
        ]
        if fixed:
            yield Problem(
                f"max_batch_size is above 0, but the first axis of {', '.join(fixed)} in {graph.path} is fixed",
                "export the graph with a dynamic first axis, or set max_batch_size: 0",
                "max_batch_size",
            )


def _compared_otherwise(config: Message, kind: str, tensor: Message) -> bool:
    """Ragged inputs and batch outputs have rules of their own; empty dims are filled in or refused by the core."""
    if kind == "input":
        return bool(tensor.allow_ragged_batch) or not (tensor.dims or tensor.HasField("reshape"))
    return not tensor.dims or any(tensor.name in item.target_name for item in config.batch_output)


def _difference(stated: tuple[int, ...], shape: tuple[int, ...], *, batched: bool, exact: bool) -> str:
    """How dims differ; an axis that the file leaves open says nothing: onnxruntime may infer its size."""
    if batched and shape[0] != -1:
        return f"max_batch_size is above 0, but the first axis is fixed: {_show(shape)}"
    whole = (-1, *stated) if batched else stated
    if len(whole) != len(shape):
        axis = ", the batch axis included" if batched else ""
        return f"dims {_show(stated)} make {len(whole)} axes{axis}, but the graph has {len(shape)}: {_show(shape)}"
    differ = [one != other and other != -1 for one, other in zip(whole, shape, strict=True)]
    if exact and batched:
        differ[0] = False
    return f"dims {_show(stated)} do not fit {_show(shape)}" if any(differ) else ""


def _dims_mend(shape: tuple[int, ...], *, batched: bool) -> str:
    if batched and (not shape or shape[0] != -1):
        return "export the graph with a dynamic first axis, or set max_batch_size: 0 and write the whole shape"
    return f"write dims: {_show(shape[1:] if batched else shape)}"


@model_rule(
    "O9",
    ADVICE,
    "an output's dims are as open as the graph's",
    why="the backend compares output dims exactly: a size where the graph's file has none is accepted only if "
    "onnxruntime infers that size",
    source="onnxruntime_backend src/onnxruntime_utils.cc:518 (compare_exact)",
)
def open_output_dims(model: Model, _: World) -> Problems:
    if model.config is None:
        return
    batched = model.config.max_batch_size > 0
    for graph, kind, index, tensor, of_graph in _pairs(model):
        shape = (of_graph.dims or ())[1 if batched else 0 :]
        stated = tuple(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims)
        if kind == "output" and len(shape) == len(stated) and not _compared_otherwise(model.config, kind, tensor):
            closed = [one for one, other in zip(stated, shape, strict=True) if one != -1 and other == -1]
            if closed:
                yield Problem(
                    f"output {tensor.name!r} has dims {_show(stated)}, where {graph.path} leaves them open: "
                    f"{_show(shape)}",
                    f"write dims: {_show(shape)}, or export the graph with the size",
                    field=f"output[{index}].dims",
                )


@model_rule(
    "O7",
    LOAD_ERROR,
    "inputs and outputs of the graph are tensors of a type that Triton has",
    why="the backend takes no sequences, maps or optional values, and has no name for the other element types",
    source="onnxruntime_backend src/onnxruntime_utils.cc:202, src/onnxruntime.cc:1711",
)
def kinds(model: Model, _: World) -> Problems:
    for graph, header in headers(model):
        for tensor in (*header.inputs, *header.outputs):
            if tensor.kind not in {"tensor", "unknown"}:
                yield Problem(
                    f"{tensor.name!r} is a {tensor.kind}; only tensors are served",
                    path=graph.path,
                    mend="export the model with tensors only",
                )
            elif tensor.dtype.startswith("ONNX type"):
                yield Problem(
                    f"{tensor.name!r} has the element type {tensor.dtype}, which Triton has no name for",
                    path=graph.path,
                    mend="cast it in the graph",
                )


@model_rule(
    "O8",
    LOAD_ERROR,
    "optional and ragged inputs are as the backend can serve them",
    why="an optional input must be an initializer of a model that does not batch; a ragged one has the shape [-1]",
    source="onnxruntime_backend src/onnxruntime.cc:1694,1743,1755",
)
def optional_and_ragged(model: Model, _: World) -> Problems:
    for graph, kind, index, tensor, of_graph in _pairs(model):
        if kind == "output":
            continue
        place = f"input[{index}]"
        if tensor.optional and model.config.max_batch_size != 0:
            yield Problem(
                f"input {tensor.name!r} is optional, which a model that batches cannot have",
                "set max_batch_size: 0, or remove optional",
                f"{place}.optional",
            )
        elif tensor.optional and tensor.allow_ragged_batch:
            yield Problem(
                f"input {tensor.name!r} is both optional and ragged", "remove one of them", f"{place}.optional"
            )
        elif tensor.allow_ragged_batch and of_graph.dims not in {(-1,), None}:
            yield Problem(
                f"input {tensor.name!r} allows a ragged batch, for which the graph must have the shape [-1]; "
                f"{graph.path} has {_show(of_graph.dims or ())}",
                "remove allow_ragged_batch, or export a graph that takes all requests in one axis",
                f"{place}.allow_ragged_batch",
            )


@model_rule(
    "O10",
    ADVICE,
    "tensors have names that a person gave",
    why="names that an exporter counted change with the next export, and clients break",
    source="the notebooks of AWS's Triton study serve an output named 3194",
)
def counted_names(model: Model, _: World) -> Problems:
    for _graph, header in headers(model):
        for kind, tensors in (("input", header.inputs), ("output", header.outputs)):
            for tensor in tensors:
                if tensor.name.isdecimal():
                    yield Problem(
                        f"the graph's {kind} {tensor.name!r} has a number for a name",
                        f"export with {kind}_names",
                        field=kind,
                    )


def _takes(header: OnnxHeader) -> tuple[GraphTensor, ...]:
    """What a request may give: an input with an initializer is a constant before IR version 4, and a default since."""
    return (*header.inputs, *header.overridable) if header.ir_version >= _DEFAULTS_SINCE_IR else header.inputs


def _pairs(model: Model) -> Iterator[tuple[Graph, str, int, Message, GraphTensor]]:
    """Graph, ``input`` or ``output``, index, the config's tensor, the graph's tensor: of those that both have."""
    for graph, header in headers(model):
        for kind, stated, known in (
            ("input", model.config.input, _takes(header)),
            ("output", model.config.output, header.outputs),
        ):
            by_name = {tensor.name: tensor for tensor in known}
            for index, tensor in enumerate(stated):
                if tensor.name in by_name:
                    yield graph, kind, index, tensor, by_name[tensor.name]


def _show(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"
