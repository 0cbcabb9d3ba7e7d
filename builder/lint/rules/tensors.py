"""What Triton's core refuses in inputs and outputs. Lines of core r24.10, ``src/model_config_utils.cc``."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Final

from builder.lint import backend
from builder.lint.finding import LOAD_ERROR
from builder.lint.python_model import Outcome, outcome_of
from builder.lint.rule import Problem, model_rule
from builder.lint.rules.core import CORE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from builder.lint.model import Model, World
    from builder.lint.rule import Problems

_IMAGE_FORMATS: Final = (1, 2)  # ModelInput.Format: FORMAT_NHWC, FORMAT_NCHW
_IMAGE_DIMS: Final = 3
_BATCH_INPUT_TYPES: Final = (8, 11)  # DataType: TYPE_INT32, TYPE_FP32


@dataclass(frozen=True, slots=True)
class _Tensor:
    """An input or output, with its place in the config."""

    field: str
    kind: str  # input or output
    data: Any

    @property
    def label(self) -> str:
        return f"{self.kind} {self.data.name!r}" if self.data.name else self.field


def _finals(model: Model, world: World) -> list[Any]:
    """The configs that the server checks when all is loaded; empty where a backend completes them, which it may."""
    if model.config is None:
        return []
    if world.options.strict:
        return [model.config]
    outcomes = [outcome_of(model, version, world) for version in model.loaded_versions] or [Outcome(model.config)]
    return [one.config for one in outcomes if one.config is not None]


def _tensors(config: Any) -> Iterator[_Tensor]:  # noqa: ANN401 - a protobuf message
    for kind in ("input", "output"):
        for index, tensor in enumerate(getattr(config, kind)):
            yield _Tensor(f"{kind}[{index}]", kind, tensor)


def _all(model: Model, world: World) -> Iterator[_Tensor]:
    """The tensors of all final configs; where they are not known, those that the config has."""
    finals = _finals(model, world) or ([model.config] if model.config is not None else [])
    for config in finals:
        yield from _tensors(config)


@model_rule(
    "C33",
    LOAD_ERROR,
    "every input and output has name, data_type and dims",
    why="The core refuses a tensor without them, once the backend has had its chance to complete the config.",
    source=f"{CORE}:300-320",
)
def tensors_are_complete(model: Model, world: World) -> Problems:
    """Nothing is missing that no backend adds."""
    for config in _finals(model, world):
        for tensor in _tensors(config):
            given = (("name", tensor.data.name), ("data_type", tensor.data.data_type), ("dims", tensor.data.dims))
            for part, value in given:
                if not value:
                    yield Problem(f"{tensor.label} has no {part}", f"set {part}", tensor.field)


@model_rule(
    "C34",
    LOAD_ERROR,
    "dims are 1 or more, or -1",
    why="-1 says that an axis varies; the core refuses 0 and other negative numbers.",
    source=f"{CORE}:331-341",
)
def dims_are_natural(model: Model, world: World) -> Problems:
    """Each of ``dims``."""
    for tensor in _all(model, world):
        for dim in tensor.data.dims:
            if dim < 1 and dim != -1:
                yield Problem(
                    f"{tensor.label} has the dim {dim}; allowed: 1 or more, -1",
                    "write -1 for an axis that varies",
                    f"{tensor.field}.dims",
                )


@model_rule(
    "C22",
    LOAD_ERROR,
    "reshape keeps the number of elements",
    why="A reshape only groups elements anew: between the axes of -1, dims and shape must have the same product.",
    source=f"{CORE}:322-420; server#5742",
)
def reshape_fits(model: Model, world: World) -> Problems:
    """``reshape.shape`` against ``dims``."""
    for config in _finals(model, world) or ([model.config] if model.config is not None else []):
        for tensor in _tensors(config):
            if tensor.data.HasField("reshape") and (words := _reshape_problem(tensor.data, config.max_batch_size)):
                yield Problem(f"{tensor.label}: {words}", "leave reshape out, or correct it", f"{tensor.field}.reshape")


def _reshape_problem(tensor: Any, max_batch_size: int) -> str:  # noqa: ANN401 - a protobuf message
    dims, shape = list(tensor.dims), list(tensor.reshape.shape)
    if not shape and max_batch_size == 0:
        return "an empty reshape would leave no axis, as max_batch_size is 0"
    if any(dim < 1 and dim != -1 for dim in shape):
        return f"reshape {shape} holds a number that is neither -1 nor 1 or more"
    if not shape:
        return "" if prod(dims) == 1 and -1 not in dims else f"an empty reshape needs one element; dims are {dims}"
    if _groups(dims) != _groups(shape):
        return f"dims {dims} and reshape {shape} do not have the same elements"
    return ""


def _groups(shape: Sequence[int]) -> list[int]:
    """The products of what stands between the axes of -1."""
    found = [1]
    for dim in shape:
        if dim == -1:
            found.append(1)
        else:
            found[-1] *= dim
    return found


@model_rule(
    "C35",
    LOAD_ERROR,
    "inputs with an image format have three dims",
    why="FORMAT_NHWC and FORMAT_NCHW are for one image without the batch axis.",
    source=f"{CORE}:1750-1755",
)
def images_have_three_dims(model: Model, world: World) -> Problems:
    """``format`` against the number of dims."""
    for tensor in _all(model, world):
        if tensor.kind == "input" and tensor.data.format in _IMAGE_FORMATS and len(tensor.data.dims) != _IMAGE_DIMS:
            yield Problem(
                f"{tensor.label} has an image format and {len(tensor.data.dims)} dims; allowed: {_IMAGE_DIMS}",
                "leave format out",
                f"{tensor.field}.format",
            )


@model_rule(
    "C36",
    LOAD_ERROR,
    "shape tensors and non-linear formats are for TensorRT",
    why="Only the platform tensorrt_plan has them; a non-linear format also needs three dims.",
    source=f"{CORE}:425-448,1757-1763",
)
def only_tensorrt_has_them(model: Model, world: World) -> Problems:
    """``is_shape_tensor`` and ``is_non_linear_format_io``."""
    for tensor in _all(model, world):
        for part in ("is_shape_tensor", "is_non_linear_format_io"):
            if not getattr(tensor.data, part):
                continue
            if backend.completed(model).platform != backend.TENSORRT_PLATFORM:
                yield Problem(
                    f"{tensor.label} has {part}, which only TensorRT has", f"leave {part} out", f"{tensor.field}.{part}"
                )
            elif part == "is_non_linear_format_io" and len(tensor.data.dims) != _IMAGE_DIMS:
                yield Problem(
                    f"{tensor.label} has {part} and needs {_IMAGE_DIMS} dims",
                    f"leave {part} out",
                    f"{tensor.field}.{part}",
                )


@model_rule(
    "C37",
    LOAD_ERROR,
    "a batch_input has one source, which is an input, and the type INT32 or FP32",
    why="The core makes it from that input's shapes.",
    source=f"{CORE}:1273-1322; backend/src/backend_common.cc (BatchInput::Init)",
)
def batch_inputs_fit(model: Model, world: World) -> Problems:
    """Each ``batch_input``."""
    for config in _finals(model, world):
        names = {tensor.name for tensor in config.input}
        for index, item in enumerate(config.batch_input):
            place = f"batch_input[{index}]"
            yield from _sources(item, names, place)
            if item.data_type not in _BATCH_INPUT_TYPES:
                yield Problem(f"{place} has another data_type than TYPE_INT32 and TYPE_FP32", "take one of them", place)


@model_rule(
    "C38",
    LOAD_ERROR,
    "a batch_output has one source, which is an input, and its targets are outputs, each once",
    why="The core scatters the output by that input's shapes.",
    source=f"{CORE}:1324-1361",
)
def batch_outputs_fit(model: Model, world: World) -> Problems:
    """Each ``batch_output``."""
    for config in _finals(model, world):
        inputs, outputs = ({tensor.name for tensor in part} for part in (config.input, config.output))
        for index, item in enumerate(config.batch_output):
            place, targets = f"batch_output[{index}]", list(item.target_name)
            yield from _sources(item, inputs, place)
            if item.kind != 0:
                yield Problem(f"{place} has an unknown kind", "write BATCH_SCATTER_WITH_INPUT_SHAPE", place)
            if unknown := [name for name in targets if name not in outputs]:
                yield Problem(f"{place}: no output is called {unknown[0]!r}", "name an output", f"{place}.target_name")
            if len(set(targets)) < len(targets):
                yield Problem(f"{place} names a target twice", "name it once", f"{place}.target_name")


@model_rule(
    "C42",
    LOAD_ERROR,
    "a batch_output has a target",
    why="The library of the backends looks at the first one without asking whether there is any: the server crashes.",
    source="backend/src/backend_common.cc (BatchOutput::ParseFromModelConfig)",
)
def batch_outputs_have_targets(model: Model, world: World) -> Problems:
    """``target_name`` of each ``batch_output``."""
    for config in _finals(model, world):
        for index, item in enumerate(config.batch_output):
            if not item.target_name and not backend.is_ensemble(model):
                yield Problem(f"batch_output[{index}] has no target_name", "name an output", f"batch_output[{index}]")


def _sources(item: Any, names: set[str], place: str) -> Problems:  # noqa: ANN401 - a protobuf message
    sources = list(item.source_input)
    if len(sources) != 1:
        yield Problem(f"{place} has {len(sources)} source_input; allowed: 1", "name one input", place)
    for name in sources:
        if name not in names:
            yield Problem(f"{place}: no input is called {name!r}", "name an input", f"{place}.source_input")


@model_rule(
    "C40",
    LOAD_ERROR,
    "label files are there, one for an output's name",
    why="The core reads them when it loads the model, from the model's folder.",
    source="core/src/model.cc:114-118; core/src/label_provider.cc:60",
)
def labels_exist(model: Model, world: World) -> Problems:
    """``label_filename`` of each output, relative to the model's folder."""
    for config in _finals(model, world) or ([model.config] if model.config is not None else []):
        seen = set[str]()
        for tensor in _tensors(config):
            if tensor.kind == "input" or not (name := tensor.data.label_filename):
                continue
            if tensor.data.name in seen:
                yield Problem(f"{tensor.label} has two label files", "keep one of the outputs", tensor.field)
            seen.add(tensor.data.name)
            if not model.has(name):
                yield Problem(
                    f"{tensor.label}: there is no label file {name!r}",
                    "add it, or leave label_filename out",
                    f"{tensor.field}.label_filename",
                )


@model_rule(
    "C44",
    LOAD_ERROR,
    "label files lie in the model's folder",
    why="From 26.02 on the core refuses a path that leads out of it.",
    source="core r26.02, src/model.cc (IsChildPathEscapingParentPath)",
    releases=">=26.02",
)
def labels_are_inside(model: Model, _world: World) -> Problems:
    """``label_filename`` of each output does not lead out."""
    for index, tensor in enumerate(model.config.output if model.config is not None else ()):
        if posixpath.normpath(f"m/{tensor.label_filename}").partition("/")[0] != "m":
            place = f"output[{index}].label_filename"
            yield Problem(f"output {tensor.name!r}: {tensor.label_filename!r} leads out", "move the file here", place)
