"""Configs of the models in an archive or repository, as JSON data: what is written, and what a server makes of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from builder.errors import UserError
from builder.tools import triton_proto

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from builder.artifacts import Json

log = logging.getLogger(__name__)

CONFIG: Final = "config.pbtxt"


def called(path: Path, load: Sequence[str], model: str | None) -> str:
    """The model of a repository that clients call: the one that is asked for, or the only one that is loaded.

    Raises:
        UserError: there is no such model, or there are several.
    """
    if model is not None:
        if not (path / model).is_dir():
            raise UserError(f"{path}: has no model {model}; it has: {', '.join(load)}")
        return model
    if len(load) != 1:
        raise UserError(f"{path}: has the models {', '.join(load)}; one is swept", mend="say which one clients call")
    return load[0]


def reachable(path: Path, name: str) -> dict[str, dict[str, Json]]:
    """A model, and the models that it is an ensemble of, with their configs as they are written."""
    found: dict[str, dict[str, Json]] = {}
    waiting = [name]
    while waiting:
        model = waiting.pop(0)
        if model not in found:
            found[model] = _read_config(path / model)
            waiting += [step["model_name"] for step in steps_of(found[model])]
    return found


def _read_config(folder: Path) -> dict[str, Json]:
    """What is written; empty: nothing is, and Triton finds it out itself."""
    place = folder / CONFIG
    return parsed(place.read_text(encoding="utf-8", errors="replace"), str(place)) if place.is_file() else {}


def completed(path: Path, configs: Mapping[str, Json], triton: str) -> dict[str, dict[str, Json]]:
    """The configs of models as a server completes them: from the model's file, or from its Python code."""
    from builder.serving import Ports, running
    from builder.tools import triton_client

    log.info("asking a server what the models take")
    with (
        running(path, triton=triton, ports=Ports()) as served,
        triton_client.connect(served.server.grpc_address) as client,
    ):
        return {model: triton_proto.from_server(client.config(model)) for model in configs}


def parsed(text: str, place: str) -> dict[str, Json]:
    """The JSON data of a ``config.pbtxt``.

    Raises:
        UserError: it is none.
    """
    return triton_proto.to_json(triton_proto.parse_text(text, place=place))


def steps_of(config: Mapping[str, Json]) -> list[dict[str, Json]]:
    """The steps of an ensemble; of another model none."""
    return list(config.get("ensemble_scheduling", {}).get("step", []))
