"""Python models: their files, and the config that ``auto_complete_config`` makes of the one in the repository.

Sources: ``src/stub_launcher.cc``, ``src/pb_stub.cc`` and ``src/resources/triton_python_backend_utils.py`` of
triton-inference-server/python_backend, r24.10.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder.lint import backend, python_source
from builder.lint.completion import UnknownError, follow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.lint.completion import Call
    from builder.lint.model import Model, World
    from builder.lint.options import Options
    from builder.lint.python_source import Completion, Source

_TENSOR_FIELDS: Final = {"add_input": ("input", {"optional"}), "add_output": ("output", set[str]())}
_NEEDED: Final = ("name", "data_type", "dims")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The config that the server works with.

    Args:
        config: the ModelConfig message; None where it cannot be told without running anything.
        problem: why completing it fails.
        path: the ``model.py`` that completes it.
        line: the line in it.
    """

    config: Any
    problem: str = ""
    path: str = ""
    line: int | None = None


def is_python(model: Model) -> bool:
    """Whether the Python backend itself serves the model."""
    return model.config is not None and backend.completed(model).backend == backend.PYTHON


def filename(model: Model) -> str:
    """The file in a version's folder that is imported."""
    return backend.completed(model).filename or "model.py"


def module_path(model: Model, version: int) -> str:
    """The path of the module of a version, in the tree."""
    return posixpath.normpath(model.path(f"{version}/{filename(model)}"))


def interpreter(options: Options) -> tuple[int, int]:
    """The Python of a release's containers: 3.10 up to 24.10, 3.12 from 24.11 on (NVIDIA's release notes)."""
    return (3, 10) if options.release < "24.11" else (3, 12)


def source(model: Model, version: int, world: World) -> Source | None:
    """The module of a version; None where there is no such file."""
    path = module_path(model, version)
    if not model.tree.is_file(path):
        return None
    key = f"source {path}"
    if key not in model.memo:
        model.memo[key] = python_source.read(model.tree, path, interpreter(world.options))
    return model.memo[key]  # type: ignore[no-any-return]


def outcome(model: Model, world: World) -> Outcome:
    """The config of the newest version that is loaded, which is also what ensembles see."""
    versions = model.loaded_versions
    return outcome_of(model, versions[-1], world) if versions else Outcome(model.config)


def outcome_of(model: Model, version: int, world: World) -> Outcome:
    """The config of a version."""
    key = f"outcome {version}"
    if key not in model.memo:
        model.memo[key] = _outcome(model, version, world)
    return model.memo[key]  # type: ignore[no-any-return]


def _outcome(model: Model, version: int, world: World) -> Outcome:
    if world.options.strict or backend.is_ensemble(model):
        return Outcome(model.config)
    if not is_python(model):
        return Outcome(None)  # its backend completes it from the model's file
    code = source(model, version, world)
    if code is None or code.error or (code.is_open and code.completion is None):
        return Outcome(None)
    if code.completion is None:
        return Outcome(as_completed(model.config))
    return _completed(model, code.completion, module_path(model, version))


def as_completed(config: Any) -> Any:  # noqa: ANN401 - a protobuf message
    """A copy, as a backend that may complete it gives it back: names of tensors lose what is not UTF-8.

    Source: seen on server 2.51 (24.10), which hands the config over as JSON.
    """
    copy = type(config)()
    copy.CopyFrom(config)
    for tensor in (*copy.input, *copy.output):
        tensor.name = tensor.name.replace("\ufffd", "")  # what text_format makes of such bytes
    return copy


def _completed(model: Model, completion: Completion, path: str) -> Outcome:
    nothing = Outcome(None, "auto_complete_config does not return the config", path, completion.line)
    if not completion.arguments:
        return Outcome(None, "auto_complete_config cannot be called with the config alone", path, completion.line)
    if not completion.returns:
        return nothing
    if completion.body is None:
        return Outcome(None)
    config = as_completed(model.config)
    problems: list[Outcome] = []
    unreadable: list[Outcome] = []

    def apply(call: Call) -> bool:
        try:
            problem = _apply(config, call)
        except _UnreadableError as error:
            unreadable.append(Outcome(None, f"auto_complete_config: {error}", path, call.line))
            return True
        if problem is None:
            raise UnknownError
        if problem:
            problems.append(Outcome(None, f"auto_complete_config: {problem}", path, call.line))
        return not problem

    try:
        gives = follow(completion.body, config, apply)
    except UnknownError:
        return Outcome(None)
    found = [Outcome(config)]
    if unreadable:  # the server then goes on with what the file says, if there is one
        found = [Outcome(model.config)] if model.config_path else unreadable
    return [*problems, *found][0] if gives else nothing


class _UnreadableError(Exception):
    """The server cannot read the config that comes out."""


def _apply(config: Any, call: Call) -> str | None:  # noqa: ANN401 - a protobuf message
    """Does to the config what the call does; returns what is wrong with it, or None where that cannot be told."""
    if call.method in _TENSOR_FIELDS:
        return _add_tensor(config, call)
    if call.method == "set_max_batch_size" and isinstance(call.argument, int):
        if config.max_batch_size > call.argument:
            return f"sets max_batch_size {call.argument}, but the config has {config.max_batch_size}"
        config.max_batch_size = call.argument
        return ""
    if call.method == "set_dynamic_batching":
        if config.HasField("sequence_batching"):
            return "sets dynamic batching, but the config has sequence_batching"
        config.dynamic_batching.SetInParent()
        return ""
    if call.method == "set_model_transaction_policy" and isinstance(call.argument, dict):
        return _set_policy(config, call.argument)
    return None


def _set_policy(config: Any, policy: Mapping[str, Any]) -> str:  # noqa: ANN401
    if set(policy) - {"decoupled"}:
        return f"set_model_transaction_policy takes only decoupled, got {', '.join(map(str, policy))}"
    if "decoupled" in policy:
        there = config.HasField("model_transaction_policy")
        if there and config.model_transaction_policy.decoupled != policy["decoupled"]:
            return f"sets decoupled to {policy['decoupled']}, but the config says otherwise"
        config.model_transaction_policy.decoupled = bool(policy["decoupled"])
    return ""


def _add_tensor(config: Any, call: Call) -> str | None:  # noqa: ANN401
    field, more = _TENSOR_FIELDS[call.method]
    data = call.argument
    if not isinstance(data, dict):
        return None
    if unknown := set(data) - {*_NEEDED, *more}:
        got = ", ".join(sorted(map(str, unknown)))
        return f"{call.method} takes only {', '.join((*_NEEDED, *sorted(more)))}, got {got}"
    if missing := [name for name in _NEEDED if name not in data]:
        return f"{call.method} needs {', '.join(missing)}"
    if not isinstance(data["name"], str) or not isinstance(data["dims"], list):
        return None
    types = config.DESCRIPTOR.fields_by_name[field].message_type.fields_by_name["data_type"].enum_type.values_by_name
    tensors = getattr(config, field)
    known = [tensor for tensor in tensors if tensor.name == data["name"]]
    tensor = known[0] if known else tensors.add(name=data["name"])
    if data["data_type"] not in types:
        wrong = f"{call.method}: {data['data_type']!r} is no data type; allowed: {', '.join(types)}"
        if known and tensor.data_type:
            return wrong
        raise _UnreadableError(wrong)
    return _merge(tensor, data, types[data["data_type"]].number, known=bool(known))


def _merge(tensor: Any, data: Mapping[str, Any], data_type: int, *, known: bool) -> str:  # noqa: ANN401
    name, dims = data["name"], list(data["dims"])
    if known and tensor.data_type not in {0, data_type}:
        return f"{name} is {data['data_type']}, but the config says otherwise"
    if known and tensor.dims and list(tensor.dims) != dims:
        return f"{name} has the dims {dims}, but the config says {list(tensor.dims)}"
    if known and "optional" in data and tensor.optional != data["optional"]:
        return f"{name} has optional {data['optional']}, but the config says otherwise"
    tensor.data_type = data_type
    del tensor.dims[:]
    tensor.dims.extend(dims)
    if "optional" in data:
        tensor.optional = data["optional"]
    return ""
