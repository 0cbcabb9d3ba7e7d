"""Anybody's ``config.pbtxt`` → what a recipe says of it: the way back from :mod:`builder.config.compose`.

A config holds facts of the model, which the build derives, and choices, which a recipe makes. They are taken apart
here; put together again they are the same config.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.artifacts import Tensor
from builder.config.compose import ModelFacts
from builder.errors import UserError
from builder.recipe.triton import FILE_KEYS
from builder.tools import triton_proto

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import Json

_FACTS: Final = (
    *("name", "platform", "backend", "default_model_filename", "ensemble_scheduling"),
    *("input", "output", "max_batch_size"),
)
_OF_THE_GRAPH: Final = ("data_type", "dims")
_RAW_ALONE: Final = ("model_operations",)
_FOLDERS: Final = {"input_data_file": "warmup", "data_file": "initial_state"}


@dataclass(frozen=True, slots=True)
class Adopted:
    """``compose(facts, serving)`` is the config again.

    A config without a scheduler gives a section without one, which ``pipeline: auto`` then fills in: for a model that
    must not gather, say ``dynamic_batching: false`` there.
    """

    facts: ModelFacts
    serving: dict[str, Json]  # as a recipe has it; what says nothing is left out


def adopt(text: str, *, place: str, folder: str = "") -> Adopted:
    """Takes a ``config.pbtxt`` apart.

    Args:
        text: its content.
        place: its path, for messages.
        folder: the model's folder, relative to the recipe: data files of warm-up entries and initial states are named
            by their paths in it.

    Raises:
        UserError: it is no such file; with line and column. Or a tensor has no name, or that of another.
    """
    config = triton_proto.to_json(triton_proto.parse_text(text, place=place))
    for direction in ("input", "output"):
        names = [tensor.get("name", "") for tensor in config.get(direction, ())]
        if "" in names or len(set(names)) < len(names):
            raise UserError(f"{place}: {direction}: each needs a name of its own; got {names}")
    return Adopted(_facts(config), _serving(config, folder))


def to_yaml(serving: Mapping[str, Json]) -> str:
    """The section ``serving:`` as YAML: short values in one line."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 110
    yaml.default_flow_style = None
    stream = io.StringIO()
    yaml.dump({"serving": dict(serving)}, stream)
    return stream.getvalue()


def _facts(config: Mapping[str, Json]) -> ModelFacts:
    size = config.get("max_batch_size", 0)
    return ModelFacts(
        name=config.get("name", ""),
        inputs=tuple(_tensor(tensor, size) for tensor in config.get("input", ())),
        outputs=tuple(_tensor(tensor, size) for tensor in config.get("output", ())),
        max_batch_size=size,
        backend=config.get("backend", ""),
        platform=config.get("platform", ""),
        model_filename=config.get("default_model_filename", ""),
        scheduling=config.get("ensemble_scheduling"),
    )


def _tensor(tensor: Mapping[str, Json], max_batch_size: int) -> Tensor:
    """As the graph has it: with the batch axis, and after Triton's reshape."""
    kind = tensor.get("data_type", "TYPE_INVALID").removeprefix("TYPE_")
    dims = tensor["reshape"].get("shape", []) if "reshape" in tensor else tensor.get("dims", [])
    batch = () if tensor.get("allow_ragged_batch") or not max_batch_size else (-1,)
    return Tensor(tensor.get("name", ""), "BYTES" if kind == "STRING" else kind, (*batch, *dims))


def _serving(config: Mapping[str, Json], folder: str) -> dict[str, Json]:
    said = {"max_batch_size": config.get("max_batch_size", 0)}
    said |= {key: value for key, value in config.items() if key not in (*_FACTS, *_RAW_ALONE)}
    if "parameters" in said:
        said["parameters"] = {key: value.get("string_value", "") for key, value in said["parameters"].items()}
    if not said.get("response_cache", {}).get("enable"):
        said.pop("response_cache", None)
    for key in ("model_warmup", "sequence_batching"):
        if key in said:
            said[key] = _placed(said[key], folder)
    if config.get("platform") != "ensemble":
        said.setdefault("model_warmup", "off")
    for direction in ("input", "output"):
        if entries := _entries(config, direction):
            said[direction] = entries
    if raw := {key: config[key] for key in _RAW_ALONE if key in config}:
        said["config"] = raw
    return said


def _entries(config: Mapping[str, Json], direction: str) -> list[Json]:
    """What a config says of tensors beyond the facts of the graph."""
    states = {entry.get("output_name") for entry in config.get("sequence_batching", {}).get("state", ())}
    entries = []
    for tensor in config.get(direction, ()):
        said = {key: value for key, value in tensor.items() if key not in _OF_THE_GRAPH}
        if "reshape" in tensor or tensor.get("allow_ragged_batch"):
            said["dims"] = tensor.get("dims", [])
        if len(said) > 1 or (direction == "output" and tensor.get("name") in states):
            entries.append(said)
    return entries


def _placed(value: Json, folder: str) -> Json:
    """The data with the paths of its files."""
    if isinstance(value, dict):
        return {
            key: "/".join(filter(None, (folder, _FOLDERS[key], item)))
            if key in FILE_KEYS and isinstance(item, str) and item
            else _placed(item, folder)
            for key, item in value.items()
        }
    return [_placed(item, folder) for item in value] if isinstance(value, list) else value
