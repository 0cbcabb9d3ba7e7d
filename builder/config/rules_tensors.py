"""What a ModelConfig says of tensors: their shapes, who makes them, and the data of warm-up and initial states.

Each rule yields the path of what is wrong, and a sentence. Sources: ``src/model_config_utils.cc`` (``ValidateIOShape``,
``ValidateBatchIO``, ``Get…SequenceControlProperties``), ``src/backend_model_instance.cc`` (``GenerateWarmupData``) and
``src/sequence_batch_scheduler`` (``GenerateInitialStateData``) of triton-inference-server/core (73aad7c).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from builder.config.host import Host, Problem, tensorrt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.artifacts import Json
    from builder.config.host import Keys, Rule

_BYTES: Final = {
    "TYPE_BOOL": 1,
    **{f"TYPE_{sign}INT{bits}": bits // 8 for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "TYPE_FP16": 2,
    "TYPE_BF16": 2,
    "TYPE_FP32": 4,
    "TYPE_FP64": 8,
}
_FILE_FIELDS: Final = {"warmup": "input_data_file", "initial_state": "data_file"}
_IMAGE_FORMATS: Final = ("FORMAT_NHWC", "FORMAT_NCHW")
_BATCH_TYPES: Final = ("TYPE_INT32", "TYPE_FP32")
_FLAGS: Final = ("CONTROL_SEQUENCE_START", "CONTROL_SEQUENCE_READY", "CONTROL_SEQUENCE_END")
_FLAG_VALUES: Final = ("int32_false_true", "fp32_false_true", "bool_false_true")
_ID_TYPES: Final = ("TYPE_INT32", "TYPE_INT64", "TYPE_UINT32", "TYPE_UINT64", "TYPE_STRING")


def _shapes(config: Mapping[str, Json], _: Host) -> Iterator[Problem]:
    for direction in ("input", "output"):
        for index, tensor in enumerate(config[direction]):
            yield from _tensor(config, tensor, (direction, index))


def _tensor(config: Mapping[str, Json], tensor: Mapping[str, Json], place: Keys) -> Iterator[Problem]:
    dims = tensor["dims"]
    if not dims or any(size < 1 and size != -1 for size in dims):
        yield (*place, "dims"), f"is {dims}; allowed: sizes from 1, or -1 for any, and at least one of them"
    if "reshape" in tensor:
        shape = tensor["reshape"].get("shape", [])
        if not shape and not config["max_batch_size"]:
            yield (*place, "reshape"), "is empty, and so needs a batch axis"
        elif any(size < 1 and size != -1 for size in shape) or _chunks(dims) != _chunks(shape):
            yield (*place, "reshape"), f"cannot make {shape} of {dims}: both must have the same number of values"
    if tensor.get("format", "FORMAT_NONE") in _IMAGE_FORMATS and len(dims) != 3:
        yield (*place, "format"), f"is {tensor['format']}, which needs 3 dims; got {dims}"
    for field in ("is_shape_tensor", "is_non_linear_format_io"):
        if tensor.get(field) and not tensorrt(config):
            yield (*place, field), "is set, but only TensorRT engines have such tensors"


def _chunks(dims: Sequence[int]) -> list[int]:
    """Numbers of values between the axes of any size."""
    counts = [1]
    for size in dims:
        if size == -1:
            counts.append(1)
        else:
            counts[-1] *= size
    return counts


def _batch_tensors(config: Mapping[str, Json], _: Host) -> Iterator[Problem]:
    """Tensors that Triton makes from a whole batch, or cuts in another way than by rows."""
    inputs, outputs = ([tensor["name"] for tensor in config[direction]] for direction in ("input", "output"))
    for field in ("batch_input", "batch_output"):
        for index, entry in enumerate(config.get(field, ())):
            yield from _batch_tensor(entry, inputs, (field, index))
    for index, entry in enumerate(config.get("batch_input", ())):
        if entry.get("data_type") not in _BATCH_TYPES:
            yield ("batch_input", index, "data_type"), f"allowed: {', '.join(_BATCH_TYPES)}"
    targets = [name for entry in config.get("batch_output", ()) for name in entry.get("target_name", ())]
    for index, name in enumerate(targets):
        if name not in outputs or name in targets[:index]:
            known = ", ".join(outputs)
            yield ("batch_output",), f"target_name {name!r} must be an output, and be there once; there is: {known}"


def _batch_tensor(entry: Mapping[str, Json], inputs: Sequence[str], place: Keys) -> Iterator[Problem]:
    sources = entry.get("source_input", [])
    if len(sources) != 1:
        yield (*place, "source_input"), f"needs exactly one input; got {len(sources)}"
    for source in sources:
        if source not in inputs:
            yield (*place, "source_input"), f"{source!r} is no input; there is: {', '.join(inputs)}"
    if not entry.get("target_name"):
        yield (*place, "target_name"), "needs at least one name"


def _controls(config: Mapping[str, Json], _: Host) -> Iterator[Problem]:
    seen: set[str] = set()
    kinds: set[str] = set()
    for index, control_input in enumerate(config.get("sequence_batching", {}).get("control_input", ())):
        place, name = ("sequence_batching", "control_input", index), control_input.get("name", "")
        if not name or name in seen:
            yield (*place, "name"), f"{name!r} is there twice" if name else "must name an input of the graph"
        seen.add(name)
        for number, control in enumerate(control_input.get("control", ())):
            here, kind = (*place, "control", number), control.get("kind", _FLAGS[0])
            if kind in kinds:
                yield (*here, "kind"), f"{kind} is there twice"
            kinds.add(kind)
            yield from _control(control, kind, here)


def _control(control: Mapping[str, Json], kind: str, place: Keys) -> Iterator[Problem]:
    values = {field: control[field] for field in _FLAG_VALUES if control.get(field)}
    if kind in _FLAGS:
        if len(values) != 1:
            yield place, f"{kind} needs exactly one of {', '.join(_FLAG_VALUES)}"
        for field, pair in values.items():
            if len(pair) != 2:
                yield (*place, field), f"must hold the value for false and the one for true; got {pair}"
    else:
        if values:
            yield place, f"{kind} has no {', '.join(values)}"
        if control.get("data_type") not in _ID_TYPES:
            yield (*place, "data_type"), f"allowed: {', '.join(_ID_TYPES)}"


def _states(config: Mapping[str, Json], host: Host) -> Iterator[Problem]:
    for index, state in enumerate(config.get("sequence_batching", {}).get("state", ())):
        place = ("sequence_batching", "state", index)
        for field in ("input_name", "output_name"):
            if not state.get(field):
                yield place, f"needs {field}"
        for number, initial in enumerate(state.get("initial_state", ())):
            yield from _initial_state(state, initial, (*place, "initial_state", number), host)


def _initial_state(
    state: Mapping[str, Json], initial: Mapping[str, Json], place: Keys, host: Host
) -> Iterator[Problem]:
    dims, wanted = initial.get("dims", []), state.get("dims", [])
    if initial.get("data_type") != state.get("data_type"):
        yield (*place, "data_type"), f"must be the state's, {state.get('data_type')}"
    if not initial.get("name"):
        yield place, "needs a name"
    if len(dims) != len(wanted) or any(a < 1 or b not in {a, -1} for a, b in zip(dims, wanted, strict=False)):
        yield (*place, "dims"), f"is {dims}; must be a fixed shape that fits the state's, {wanted}"
    else:
        yield from _data(initial, place, "initial_state", host)


def _warmup(config: Mapping[str, Json], host: Host) -> Iterator[Problem]:
    known = {tensor["name"]: tensor for tensor in config["input"]}
    needed = {name for name, tensor in known.items() if not tensor.get("optional")}
    sequence = config.get("sequence_batching", {})
    controls = {entry.get("name") for entry in sequence.get("control_input", ())}
    allowed = known.keys() | controls | {entry.get("input_name") for entry in sequence.get("state", ())}
    for index, entry in enumerate(config.get("model_warmup", ())):
        place, given = ("model_warmup", index), entry.get("inputs", {})
        if not needed <= given.keys() <= allowed:
            yield (*place, "inputs"), f"has the inputs {sorted(given)}; the model has {sorted(known)}"
        size, limit = entry.get("batch_size", 0), config["max_batch_size"]
        if not 1 <= size <= max(1, limit):
            yield (*place, "batch_size"), f"is {size}; allowed: 1 to max_batch_size, which is {limit}"
        for name, value in given.items():
            yield from _warm_input(value, known.get(name, {}), (*place, "inputs", name), host)


def _warm_input(value: Mapping[str, Json], tensor: Mapping[str, Json], place: Keys, host: Host) -> Iterator[Problem]:
    dims, wanted = value.get("dims", []), tensor.get("dims")
    if tensor and value.get("data_type") != tensor["data_type"]:
        yield (*place, "data_type"), f"is {value.get('data_type')}; the model takes {tensor['data_type']}"
    if not dims or min(dims) < 1:
        yield (*place, "dims"), "must all be 1 or more, without the batch axis"
    elif wanted and (len(dims) != len(wanted) or any(b not in {a, -1} for a, b in zip(dims, wanted, strict=True))):
        yield (*place, "dims"), f"is {dims}; the model takes {wanted}"
    elif not any(field in value for field in ("zero_data", "random_data", "input_data_file")):
        yield place, "needs one of zero_data, random_data, input_data_file"
    else:
        yield from _data(value, place, "warmup", host)


def _data(value: Mapping[str, Json], place: Keys, folder: str, host: Host) -> Iterator[Problem]:
    """A file of values must be long enough."""
    field = _FILE_FIELDS[folder]
    size = host.sizes.get(f"{folder}/{value.get(field)}")
    dims, kind = value.get("dims", []), value.get("data_type", "")
    needed = math.prod(dims) * _BYTES.get(kind, 0)
    if size is not None and size < needed:
        words = f"{value[field]!r} holds {size} bytes; {kind} {dims} needs {needed}"
        yield (*place, field), words


def files_there(config: Mapping[str, Json], host: Host) -> Iterator[Problem]:
    """The files of values that warm-up entries and initial states name must be in the repository."""
    named = {
        ("model_warmup", index, "inputs", name): value
        for index, entry in enumerate(config.get("model_warmup", ()))
        for name, value in entry.get("inputs", {}).items()
    } | {
        ("sequence_batching", "state", index, "initial_state", number): initial
        for index, state in enumerate(config.get("sequence_batching", {}).get("state", ()))
        for number, initial in enumerate(state.get("initial_state", ()))
    }
    for place, value in named.items():
        folder = "warmup" if place[0] == "model_warmup" else "initial_state"
        name = value.get(_FILE_FIELDS[folder])
        if name is not None and f"{folder}/{name}" not in host.sizes:
            words = f"{name!r} is not in the repository: only what serving.{place[0]} itself names is shipped"
            yield (*place, _FILE_FIELDS[folder]), words


RULES: Final[tuple[Rule, ...]] = (_shapes, _batch_tensors, _controls, _states, _warmup)
