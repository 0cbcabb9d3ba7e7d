"""What Triton's core refuses in instance groups and warm-up requests. Lines of core r24.10."""

from __future__ import annotations

import struct
from math import prod
from typing import TYPE_CHECKING, Any, Final

from builder.lint import backend
from builder.lint.finding import LOAD_ERROR
from builder.lint.python_model import outcome
from builder.lint.rule import Problem, model_rule
from builder.lint.rules.core import CORE
from builder.lint.sizes import STRING, size_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.lint.model import Model, World
    from builder.lint.rule import Problems

_AUTO, _GPU, _CPU, _MODEL = range(4)  # ModelInstanceGroup.Kind
_NAMES: Final = ("KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL")
_WARMUP_LIMIT: Final = 64 << 20
_INPUT_LIMIT: Final = 1 << 40  # 1 TiB for one request is more than a server has


def _groups(model: Model) -> Iterator[tuple[str, Any]]:
    """(place, group) of the groups of a model that is no ensemble."""
    if model.config is not None and not backend.is_ensemble(model):
        for index, group in enumerate(model.config.instance_group):
            yield f"instance_group[{index}]", group


@model_rule(
    "C12",
    LOAD_ERROR,
    "an instance group's kind and gpus fit each other and the machine",
    why="Groups on the CPU, and groups that the model places, name no gpus; groups on GPUs need them to be there."
    " KIND_AUTO becomes KIND_CPU where a GPU is missing.",
    source=f"{CORE}:1627-1712; server#3912 #4696 #5863",
)
def groups_fit(model: Model, world: World) -> Problems:
    """``kind`` and ``gpus`` of each group."""
    there = world.options.gpus
    for place, group in _groups(model):
        gpus, kind = list(group.gpus), group.kind
        lacking = there is not None and (there == 0 or any(not 0 <= gpu < there for gpu in gpus))
        if gpus and (kind in {_CPU, _MODEL} or (kind == _AUTO and lacking)):
            yield Problem(f"{_NAMES[kind]} with gpus {gpus}", "leave gpus out", f"{place}.gpus")
        if not 0 <= kind < len(_NAMES):  # the text format takes numbers, too, also those that have no name
            yield Problem(f"kind {kind} is none; allowed: {', '.join(_NAMES)}", "take KIND_AUTO", f"{place}.kind")
        if kind == _GPU and lacking:
            words = f"needs the gpus {gpus}, but the" if gpus else "but the"
            yield Problem(f"KIND_GPU {words} machine has {there}", "take KIND_AUTO or KIND_CPU", place)


@model_rule(
    "C39",
    LOAD_ERROR,
    "profiles are numbers, and for TensorRT",
    why="A profile is the index of an optimisation profile of a TensorRT engine.",
    source=f"{CORE}:1714-1737,1865",
)
def profiles_are_numbers(model: Model, _world: World) -> Problems:
    """``profile`` of each group."""
    for place, group in _groups(model):
        if group.profile and backend.completed(model).platform != backend.TENSORRT_PLATFORM:
            yield Problem("profile is only for TensorRT models", "leave profile out", f"{place}.profile")
            continue
        for profile in group.profile:
            if not profile.strip().removeprefix("+")[:1].isdecimal():
                yield Problem(
                    f"profile {profile!r}; allowed: 0 or more", "write the index of a profile", f"{place}.profile"
                )


@model_rule(
    "C13",
    LOAD_ERROR,
    "warm-up requests are requests that the model takes",
    why="The server makes and runs them while it loads the model: all inputs that are not optional, with their type,"
    " dims without -1, and data. 2.51 sometimes crashes on one that fails.",
    source="core/src/backend_model_instance.cc:345-560; core/src/infer_request.cc:910; server#1795 #4373",
)
def warmups_fit(model: Model, world: World) -> Problems:
    """Each sample of ``model_warmup``."""
    config = outcome(model, world).config or (model.config if model.config is not None and model.config.input else None)
    if config is None or backend.is_ensemble(model) or _all_passive(model):
        return
    inputs = {tensor.name: tensor for tensor in reversed(config.input)}  # of two with one name, the first counts
    needed = sum(1 for tensor in config.input if not tensor.optional)
    for index, sample in enumerate(config.model_warmup):
        if sample.batch_size == 0:
            continue  # skipped by the server, too
        place = f"model_warmup[{index}]"
        known = [name for name in sample.inputs if name in inputs]
        if not needed <= len(known) <= len(config.input):
            missing = [name for name, tensor in inputs.items() if not tensor.optional and name not in known]
            yield Problem(f"warm-up {sample.name!r} lacks the inputs {', '.join(missing)}", "add them", place)
        for name in sorted(sample.inputs):
            for words in _input_problems(model, sample.inputs[name], inputs.get(name), config.max_batch_size):
                yield Problem(
                    f"warm-up {sample.name!r}, input {name!r}: {words}",
                    "make it a request that the model takes",
                    f"{place}.inputs",
                )


def is_warmed_up(model: Model) -> bool:
    """Whether the server sends requests to a model while it loads it."""
    samples = model.config.model_warmup if model.config is not None and not backend.is_ensemble(model) else ()
    return any(sample.batch_size for sample in samples) and not _all_passive(model)


def _all_passive(model: Model) -> bool:
    groups = model.config.instance_group
    return bool(groups) and all(group.passive for group in groups)


def _input_problems(model: Model, given: Any, wanted: Any, batch: int) -> Iterator[str]:  # noqa: ANN401
    dims, source = list(given.dims), given.WhichOneof("input_data_type")
    if -1 in dims:
        yield f"dims {dims} hold -1"
        return
    if source is None:
        yield "has no data: zero_data, random_data or input_data_file"
        return
    count = prod(dims) if dims else 0
    if source == "input_data_file":
        yield from _file_problems(model, given, count)
    elif count * (size_of(given.data_type) or 4) > _INPUT_LIMIT:
        yield f"the dims {dims} are more data than a server has memory for"
    if wanted is None:
        return  # a control input: the model gets it as it is
    if given.data_type != wanted.data_type:
        yield "has another data_type than the model's input"
    if len(dims) != len(wanted.dims) or any(b not in {-1, a} for a, b in zip(dims, wanted.dims, strict=True)):
        yield f"has the dims {dims}; the model takes {list(wanted.dims)}" + (" after the batch axis" if batch else "")
    elif any(dim < 0 for dim in dims):
        yield f"has the dims {dims}"


def _file_problems(model: Model, given: Any, count: int) -> Iterator[str]:  # noqa: ANN401
    path = f"warmup/{given.input_data_file}"
    needed = count * (size_of(given.data_type) or 4)
    if not model.has(path):
        yield f"there is no file {path}"
    elif given.data_type != STRING and model.size(path) < needed:
        yield f"needs {needed} bytes; {path} has {model.size(path)}"
    elif given.data_type == STRING:
        found = _count_strings(model.read(path, _WARMUP_LIMIT))
        if found != count:
            held = "no strings, each after its length in 4 bytes" if found is None else f"{found} strings"
            yield f"needs {count} strings; {path} has {held}"


def _count_strings(data: bytes) -> int | None:
    """How many strings there are, each after its length as a little-endian uint32; None where that does not fit."""
    count = position = 0
    while position < len(data):
        if position + 4 > len(data):
            return None
        position += 4 + struct.unpack_from("<I", data, position)[0]
        count += 1
    return count if position == len(data) else None
