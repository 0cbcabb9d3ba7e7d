"""The plans of a TensorRT model, and what tells of them: their heads, and tritonsmith's own ``build.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder.artifacts import Profile
from builder.lint.graphs import DEFAULT_FILES, TENSORRT, backend, model_file
from builder.tools import engine_header
from builder.tools.compatibility import loads
from builder.tools.releases import RELEASES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.lint.model import Model, World

TENSORRT_RTX: Final = "tensorrt_rtx"
"""Our own backend for plans of TensorRT for RTX."""

RUNTIMES: Final = {TENSORRT: "TensorRT", TENSORRT_RTX: "TensorRT-RTX"}
"""Backend → the library that loads its plans. The head of a plan tells the same names."""

_BUILD: Final = "1/build.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that is loaded on some GPU."""

    path: str
    head: engine_header.Engine


def plans(model: Model) -> Iterator[Plan]:
    """The plans of all versions that are loaded: the default one, and that of each compute capability."""
    if model.config is None or backend(model) not in RUNTIMES:
        return
    names = dict.fromkeys(
        (
            model_file(model) or DEFAULT_FILES[TENSORRT],
            *(name for _, name in sorted(model.config.cc_model_filenames.items())),
        )
    )
    for path in (model.path(f"{version}/{name}") for version in model.loaded_versions for name in names):
        if model.tree.is_file(path):
            yield Plan(path, engine_header.read_engine_head(model.tree.head(path, engine_header.HEAD_BYTES)))


def of_other_versions(model: Model, world: World) -> Iterator[tuple[Plan, str]]:
    """Plans of another TensorRT than the release's, and that; none where either is not known."""
    serving = next((one.tensorrt for one in RELEASES if one.name == world.options.release), None)
    for plan in plans(model) if serving is not None and backend(model) == TENSORRT else ():
        if (
            plan.head.kind == TENSORRT
            and plan.head.version
            and not loads(str(serving), plan.head.version, version_compatible=False)
        ):
            yield plan, str(serving)


def told_profiles(model: Model, world: World) -> tuple[Profile, ...]:
    """The profiles of a model's engine as a ``build.json`` of tritonsmith tells them; none where nobody does."""
    if model.config is None or backend(model) not in RUNTIMES:
        return ()
    if "engines" not in world.memo:
        builds = (_read(world, one) for one in world.models.values())
        world.memo["engines"] = {name: engine for build in builds for name, engine in build.items()}
    return _profiles(world.memo["engines"].get(model.name))


def _read(world: World, model: Model) -> dict[str, Any]:
    path = model.path(_BUILD)
    if not world.tree.is_file(path):
        return {}
    try:
        build = json.loads(world.tree.read_text(path))
    except ValueError:
        return {}
    engines = build.get("engines") if isinstance(build, dict) else None
    return engines if isinstance(engines, dict) else {}


def _profiles(engine: Any) -> tuple[Profile, ...]:  # noqa: ANN401 - of a file that may hold anything
    try:
        return tuple(
            Profile(_three(one["batch"]), _three(one["sequence"]) if "sequence" in one else None)
            for one in engine["profiles"]
        )
    except (KeyError, TypeError, ValueError):
        return ()


def _three(sizes: Any) -> tuple[int, int, int]:  # noqa: ANN401 - as above
    least, best, most = (int(size) for size in sizes)
    return least, best, most
