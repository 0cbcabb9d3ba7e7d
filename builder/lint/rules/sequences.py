"""What Triton's core refuses in ``sequence_batching``. Lines of core r24.10."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, Final

from builder.lint.finding import LOAD_ERROR
from builder.lint.rule import Problem, model_rule
from builder.lint.rules.core import CORE
from builder.lint.sizes import size_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.lint.model import Model, World
    from builder.lint.rule import Problems

SCHEDULER: Final = "core/src/sequence_batch_scheduler/sequence_batch_scheduler.cc"

_KINDS: Final = ("CONTROL_SEQUENCE_START", "CONTROL_SEQUENCE_READY", "CONTROL_SEQUENCE_END", "CONTROL_SEQUENCE_CORRID")
_CORRID: Final = 3
_VALUES: Final = ("int32_false_true", "fp32_false_true", "bool_false_true")
_CORRID_TYPES: Final = {5: "TYPE_UINT64", 9: "TYPE_INT64", 4: "TYPE_UINT32", 8: "TYPE_INT32", 13: "TYPE_STRING"}
_STRING: Final = 13


def _batching(model: Model) -> Any:  # noqa: ANN401 - a protobuf message
    there = model.config is not None and model.config.HasField("sequence_batching")
    return model.config.sequence_batching if there else None


def _controls(batching: Any) -> Iterator[tuple[str, str, Any]]:  # noqa: ANN401
    """(place, tensor, control) of all controls."""
    for index, tensor in enumerate(batching.control_input):
        for number, control in enumerate(tensor.control):
            place = f"sequence_batching.control_input[{index}].control[{number}]"
            yield place, tensor.name, control


@model_rule(
    "C29",
    LOAD_ERROR,
    "control tensors have names, and each kind of control one tensor",
    why="The scheduler must know which tensor tells the model of a sequence's start, end, readiness and id.",
    source=f"{CORE}:470-660",
)
def controls_are_named(model: Model, _world: World) -> Problems:
    """Names are there and differ; no kind occurs twice."""
    if (batching := _batching(model)) is None:
        return
    seen = set[str]()
    for index, tensor in enumerate(batching.control_input):
        place = f"sequence_batching.control_input[{index}]"
        if not tensor.name:
            yield Problem("a control tensor has no name", "set name", place)
        elif tensor.name in seen:
            yield Problem(f"control tensor {tensor.name!r} is there twice", "put its controls together", place)
        seen.add(tensor.name)
    kinds = [(place, control.kind) for place, _, control in _controls(batching)]
    for number, (place, kind) in enumerate(kinds):
        if kind in {other for _, other in kinds[:number]} and kind < len(_KINDS):
            yield Problem(f"{_KINDS[kind]} is there twice", "keep one", place)


@model_rule(
    "C30",
    LOAD_ERROR,
    "start, end and ready have one pair of values, the correlation id a whole-number or string type",
    why="The pair is what the model reads for no and yes. An id has a data_type and no pair.",
    source=f"{CORE}:505-610,655-690,1533-1557",
)
def controls_have_values(model: Model, _world: World) -> Problems:
    """``…_false_true`` and ``data_type`` of each control."""
    for place, name, control in _controls(_batching(model)) if _batching(model) is not None else ():
        pairs = [value for value in _VALUES if len(getattr(control, value))]
        if control.kind == _CORRID:
            if pairs:
                yield Problem(f"{name!r} is a correlation id, and has {pairs[0]}", "leave it out", place)
            if control.data_type not in _CORRID_TYPES:
                allowed = ", ".join(_CORRID_TYPES.values())
                yield Problem(
                    f"the correlation id {name!r} needs a data_type; allowed: {allowed}", "set data_type", place
                )
        elif control.kind < _CORRID and len(pairs) != 1:
            yield Problem(f"{name!r} has {len(pairs)} of {', '.join(_VALUES)}; allowed: 1", "keep one", place)
        elif control.kind < _CORRID and len(getattr(control, pairs[0])) != len(("no", "yes")):
            yield Problem(f"{name!r}: {pairs[0]} needs two values", "write the one for no, and the one for yes", place)


@model_rule(
    "C31",
    LOAD_ERROR,
    "minimum_slot_utilization lies between 0 and 1",
    why="It is the share of slots that must be filled before the direct strategy runs a batch.",
    source=f"{CORE}:1576-1591",
)
def utilization_is_a_share(model: Model, _world: World) -> Problems:
    """``direct.minimum_slot_utilization``."""
    batching = _batching(model)
    if batching is not None and batching.HasField("direct"):
        share = batching.direct.minimum_slot_utilization
        if not 0.0 <= share <= 1.0:
            place = "sequence_batching.direct.minimum_slot_utilization"
            yield Problem(f"minimum_slot_utilization is {share:g}; allowed: 0 to 1", "write a share", place)


@model_rule(
    "C32",
    LOAD_ERROR,
    "the initial state of a sequence fits the state",
    why="The scheduler makes it when the model is loaded: it needs a name, the state's type and dims, and its data.",
    source=f"{SCHEDULER}:136-158,335-470",
)
def initial_states_fit(model: Model, _world: World) -> Problems:
    """Each ``state.initial_state``."""
    batching, seen = _batching(model), set[str]()
    for index, state in enumerate(batching.state if batching is not None else ()):
        place = f"sequence_batching.state[{index}].initial_state"
        if len(state.initial_state) > 1:
            yield Problem(f"state {state.input_name!r} has several initial_state; allowed: 1", "keep one", place)
        for first in state.initial_state[:1]:
            if state.input_name in seen:
                yield Problem(f"two states have the input {state.input_name!r} and an initial_state", "keep one", place)
            seen.add(state.input_name)
            for words in _state_problems(model, state, first):
                yield Problem(f"initial_state of {state.input_name!r} {words}", "make it fit the state", place)


def _state_problems(model: Model, state: Any, first: Any) -> Iterator[str]:  # noqa: ANN401 - protobuf messages
    if first.data_type != state.data_type:
        yield "has another data_type than the state"
    if not first.name:
        yield "has no name"
    pairs = zip(first.dims, state.dims, strict=False)
    if len(first.dims) != len(state.dims) or any(b not in {-1, a} for a, b in pairs):
        yield f"has the dims {list(first.dims)}, the state {list(state.dims)}"
    if -1 in first.dims:
        yield "has a dim of -1"
    if first.WhichOneof("state_data") is None:
        yield "has neither zero_data nor data_file"
    elif first.WhichOneof("state_data") == "data_file":
        yield from _file_problem(model, first)


def _file_problem(model: Model, first: Any) -> Iterator[str]:  # noqa: ANN401 - a protobuf message
    path = f"initial_state/{first.data_file}"
    needed = prod(first.dims) * (size_of(first.data_type) or 4) if first.dims else 0
    if not model.has(path):
        yield f"names the file {path!r}, which is not there"
    elif first.data_type != _STRING and model.size(path) < needed:
        yield f"needs {needed} bytes; {path} has {model.size(path)}"
