"""GPUs and cloud instances by name: dated facts, loaded from ``data/gpus.json`` and ``data/instances.json``.

Each file says when it was taken down, and from where. What no source told is None: unknown.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder.errors import UserError
from builder.tools import hardware

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DATA: Final = Path(__file__).parent / "data"

TENSORRT, TENSORRT_RTX = "tensorrt", "tensorrt-rtx"
"""Runtimes that need a GPU, as recipes call them."""


@dataclass(frozen=True, slots=True)
class GpuModel:
    """A kind of GPU."""

    name: str
    compute_capability: str  # 7.5
    memory_mib: int | None  # of one; None: unknown


@dataclass(frozen=True, slots=True)
class Instance:
    """A cloud instance type. The price is that of one source on one day, in one region."""

    name: str  # ml.g4dn.xlarge
    vcpus: int
    memory_gib: float
    gpu: str | None = None  # a name of a :class:`GpuModel`
    gpus: int = 0
    usd_per_hour: float | None = None  # None: no source was at hand
    price_source: str | None = None  # a key of the file's ``sources``


def load_gpus() -> Mapping[str, GpuModel]:
    """The known GPUs, by name."""
    return _gpus()


def load_instances(path: Path | None = None) -> Mapping[str, Instance]:
    """The known instance types, by name.

    Args:
        path: a file of the same form as ``data/instances.json``; its rows replace and add to those that ship.

    Raises:
        UserError: the file cannot be read, or is not of that form.
    """
    return _instances() if path is None else {**_instances(), **_read_instances(path)}


def price_sources(path: Path | None = None) -> Mapping[str, str]:
    """What instances' ``price_source`` stands for, in words, with the day on which it was taken down.

    Args:
        path: a file as that of :func:`load_instances`; its sources replace and add to those that ship.

    Raises:
        UserError: the file cannot be read.
    """
    found: dict[str, str] = {}
    for one in (DATA / "instances.json", *([path] if path else [])):
        data = _read(one)
        found |= {key: f"{text}; as of {data.get('as_of', 'an unknown day')}" for key, text in _texts(data).items()}
    return found


def capabilities(runtime: str) -> Mapping[str, frozenset[str]]:
    """The compute capabilities that a runtime supports, and what each can compute in.

    Args:
        runtime: tensorrt | tensorrt-rtx.

    Returns:
        ``7.5`` → names of precisions, ``tf32`` among them.
    """
    return _capabilities()[runtime]


def known_capabilities() -> tuple[str, ...]:
    """All compute capabilities that there is a GPU for, ascending."""
    return tuple(sorted({gpu.compute_capability for gpu in _gpus().values()}, key=ordinal))


def missing(wanted: Sequence[str], names: Sequence[str] = ()) -> str:
    """The GPUs that are not here, in words; empty: all are.

    Args:
        wanted: compute capabilities; empty: any will do.
        names: what the GPUs are called.
    """
    here = [gpu.compute_capability for gpu in hardware.gpus()]
    absent = [capability for capability in wanted if capability not in here]
    if not absent and here:
        return ""
    named = f" ({', '.join(names)})" if names else ""
    what = f"a GPU of compute capability {' and one of '.join(absent)}{named}" if absent else "a GPU"
    return f"{what}; this machine has {', '.join(here) or 'none'}"


def ordinal(capability: str) -> tuple[int, int]:
    """``7.5`` as numbers: 10.0 comes after 9.0."""
    major, _, minor = capability.partition(".")
    return int(major), int(minor)


@cache
def _file(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / name).read_text(encoding="utf-8"))
    return found


@cache
def _gpus() -> dict[str, GpuModel]:
    return {row["name"]: GpuModel(**row) for row in _file("gpus.json")["gpus"]}


@cache
def _instances() -> dict[str, Instance]:
    return _read_instances(DATA / "instances.json")


@cache
def _capabilities() -> dict[str, dict[str, frozenset[str]]]:
    runtimes = _file("gpus.json")["capabilities"]
    return {runtime: {name: frozenset(known) for name, known in rows.items()} for runtime, rows in runtimes.items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    return found


def _texts(data: Mapping[str, Any]) -> dict[str, str]:
    sources = data.get("sources", {})
    return (
        {key: str(text).removeprefix("price: ") for key, text in sources.items()} if isinstance(sources, dict) else {}
    )


def _read_instances(path: Path) -> dict[str, Instance]:
    mend = 'write {"as_of": …, "sources": {…}, "instances": [{"name": …, "vcpus": …, "memory_gib": …}, …]}'
    try:
        found = {row["name"]: Instance(**row) for row in _read(path)["instances"]}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is no table of instances: {error}", mend=mend) from error
    for row in found.values():
        if row.gpu is not None and row.gpu not in _gpus():
            raise UserError(f"{path}: {row.name}: gpu: {row.gpu!r} is not known; known: {', '.join(_gpus())}")
    return found
