"""What a knob changes: its path in a recipe's section ``serving`` → an edit of models' configs.

One table, :data:`KNOBS`: a name, or the beginning of names, with what it writes into a ModelConfig and what a server
that obeys it says of itself.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from builder.artifacts import Json
    from builder.sweep.setting import Setting, Value
    from builder.sweep.subject import Subject

BATCHING: Final = "dynamic_batching"
CACHE: Final = "response_cache.enable"
MAX_BATCH: Final = "max_batch_size"

Config = dict[str, "Json"]
"""A ModelConfig as JSON data, with the protobuf's field names."""

Edit = "Callable[[Config, tuple[str, ...], Value], None]"
Read = "Callable[[Mapping[str, Json], tuple[str, ...]], Json]"


@dataclass(frozen=True, slots=True)
class Kind:
    """Of knobs: how they are written, and read back.

    Args:
        write: changes a config; gets the rest of the knob's path, and the value.
        read: what a config says, for the same path; absent fields are None.
        whole: it is a knob of the model that clients call, not of a step.
    """

    write: Callable[[Config, tuple[str, ...], Value], None]
    read: Callable[[Mapping[str, Json], tuple[str, ...]], Json]
    whole: bool = False


def _set(config: Config, path: tuple[str, ...], value: Value) -> None:
    *above, last = path
    for part in above:
        config = config.setdefault(part, {})
    if value is None:
        config.pop(last, None)
    else:
        config[last] = list(value) if isinstance(value, tuple) else value


def _get(config: Mapping[str, Json], path: tuple[str, ...]) -> Json:
    found: Json = config
    for part in path:
        found = (found or {}).get(part)
    return found


def _set_group(config: Config, path: tuple[str, ...], value: Value) -> None:
    for group in config.setdefault("instance_group", [{}]):
        _set(group, path[1:], value)


def _get_group(config: Mapping[str, Json], path: tuple[str, ...]) -> Json:
    found = {_get(group, path[1:]) for group in config.get("instance_group", [])}
    return found.pop() if len(found) == 1 else sorted(map(str, found))


def _set_max_batch(config: Config, path: tuple[str, ...], value: Value) -> None:
    _set(config, path, value)
    size = max(1, int(str(value or 0)))
    # A warm-up of a larger batch would keep the model from loading.
    warm = [one for one in config.get("model_warmup", []) if int(one.get("batch_size", 0)) <= size]
    config["model_warmup"] = warm


def turned_off(section: Mapping[str, Json]) -> bool:
    """Whether a section ``dynamic_batching`` gathers nothing: a batch of one request is as large as it wants them."""
    return list(section.get("preferred_batch_size", [])) == [1]


def _set_batching(config: Config, path: tuple[str, ...], value: Value) -> None:
    if value is False:
        config.pop(path[0], None)
        return
    section = config.setdefault(path[0], {})
    if turned_off(section):
        del section["preferred_batch_size"]


def _get_batching(config: Mapping[str, Json], path: tuple[str, ...]) -> Json:
    return path[0] in config


def _set_parameter(config: Config, path: tuple[str, ...], value: Value) -> None:
    said = str(value).lower() if isinstance(value, bool) else str(value)
    entry: Json = None if value is None else {"string_value": said}
    parameters = config.setdefault("parameters", {})
    _set(parameters, (".".join(path[1:]),), entry)


def _get_parameter(config: Mapping[str, Json], path: tuple[str, ...]) -> Json:
    return (config.get("parameters", {}).get(".".join(path[1:])) or {}).get("string_value")


KNOBS: Final[Mapping[str, Kind]] = {
    MAX_BATCH: Kind(_set_max_batch, _get),
    "instance_group.count": Kind(_set_group, _get_group),
    "instance_group.kind": Kind(_set_group, _get_group),
    BATCHING: Kind(_set_batching, _get_batching),
    "dynamic_batching.": Kind(_set, _get),
    "parameters.": Kind(_set_parameter, _get_parameter),
    "optimization.": Kind(_set, _get),
    CACHE: Kind(_set, _get, whole=True),
}
"""By name; those that end with a dot, by the beginning of the name."""


@dataclass(frozen=True, slots=True)
class Change:
    """One knob of a setting, resolved: which model's config it is about."""

    knob: str
    model: str
    path: tuple[str, ...]
    kind: Kind
    value: Value

    def misread(self, config: Mapping[str, Json]) -> str:
        """In what a server's config is not what was asked; empty: it is."""
        found = self.kind.read(config, self.path)
        if self.value is None or _plain(found) == _plain(self.value) or _resolved(self.value, found):
            return ""
        return f"{self.knob}: {self.value} was asked, the server says {found}"


def _plain(value: Json) -> Json:
    """64-bit numbers are texts in protobuf's JSON, and fields that have their default are absent."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value] or ""
    return "" if value in (None, 0, False, "0") else str(value)


def _resolved(value: Json, found: Json) -> bool:
    """KIND_AUTO: the server says what it chose."""
    return value == "KIND_AUTO" and str(found) in {"KIND_CPU", "KIND_GPU", "KIND_MODEL"}


def changes(subject: Subject, setting: Setting) -> tuple[Change, ...]:
    """What a setting changes in the configs of a subject; without what needs a build.

    Raises:
        UserError: a knob is unknown, or names a step that the subject has not.
    """
    values = setting.as_dict()
    return tuple(
        _change(subject, knob, value)
        for knob, value in setting.values
        if not knob.startswith("@") and not _is_moot(knob, values)
    )


def _is_moot(knob: str, values: Mapping[str, Value]) -> bool:
    """Whether it is about batches that another knob turns off."""
    step, colon, path = knob.rpartition(":")
    return path.startswith(f"{BATCHING}.") and values.get(f"{step}{colon}{BATCHING}") is False


def _change(subject: Subject, knob: str, value: Value) -> Change:
    step, _, path = knob.rpartition(":")
    kind = KNOBS.get(path) or KNOBS.get(path.partition(".")[0] + ".")
    if kind is None:
        allowed = ", ".join(name + ("…" if name.endswith(".") else "") for name in KNOBS)
        raise UserError(f"knob {knob}: unknown; allowed: {allowed}")
    model = subject.name if kind.whole and not step else subject.model_of(step)
    return Change(knob, model, tuple(path.split(".")), kind, value)


def edited(subject: Subject, setting: Setting) -> dict[str, Config]:
    """The configs of all models of a subject under a setting.

    The ensemble takes no larger requests than its steps do: its ``max_batch_size`` follows the least of theirs.

    Raises:
        UserError: see :func:`changes`.
    """
    configs = {name: copy.deepcopy(dict(config)) for name, config in subject.configs.items()}
    for change in changes(subject, setting):
        change.kind.write(configs[change.model], change.path, change.value)
    for config in configs.values():
        if "ensemble_scheduling" in config:
            _fit(config, configs)
    return configs


def _fit(ensemble: Config, configs: Mapping[str, Config]) -> None:
    steps = [configs[step["model_name"]] for step in ensemble["ensemble_scheduling"].get("step", [])]
    largest = min([int(one.get(MAX_BATCH, 0)) for one in steps], default=0)
    if largest < int(ensemble.get(MAX_BATCH, 0)):
        _set_max_batch(ensemble, (MAX_BATCH,), largest)
