"""What of a model is shipped: its graph, or the plans of its engine, and what a host needs for these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.artifacts import Engine
from builder.core.codec import to_json
from builder.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import File, Json, OnnxModel

STOCK_BACKENDS: Final = ("tensorrt",)
"""Backends of engines that NVIDIA's image has. Ours has to be put into the server's folder of backends: in a model's
folder Triton looks for no Python-based one (``src/backend_model.cc:428`` of triton-inference-server/core 73aad7c)."""


VERSION_COMPATIBLE: Final = "--backend-config=tensorrt,version-compatible=true"
"""Without it the backend loads no plan of another version (``src/tensorrt.cc:168`` of
triton-inference-server/tensorrt_backend e2ef6d7): such a plan brings code of its own, which the server then runs."""


def check_served(made: OnnxModel | Engine) -> None:
    """Checks that a server finds what it is to load.

    Raises:
        InternalError: there is no graph, or a plan is missing.
    """
    needed = set(made.plans.values()) or {"model.plan"} if isinstance(made, Engine) else {"model.onnx"}
    if missing := needed - made.files.keys():
        raise InternalError(f"the model has no {min(missing)}, only {', '.join(made.files)}")


def tell_engine(engine: Engine) -> dict[str, Json]:
    """What ``build.json`` tells of an engine, for lint and for people: nobody can read it from a plan without a GPU."""
    profiles = [{key: value for key, value in to_json(profile).items() if value} for profile in engine.profiles]
    return {
        "runtime": engine.runtime,
        "plans": {
            capability: {"file": name, "sha256": engine.files[name].sha256} for capability, name in engine.plans.items()
        },
        "profiles": profiles,
    }


def shipped(model: OnnxModel, engine: Engine | None, options: Mapping[str, Json]) -> dict[str, File]:
    """What the server finds in the model's version folder.

    Args:
        model: the graph.
        engine: compiled from it; None: the graph is served itself.
        options: the recipe's, of the engine: a plan without weights gets them from the graph beside it.
    """
    if engine is None:
        return model.files
    return {**engine.files, **model.files} if options.get("strip_weights") else engine.files


def host_needs(engine: Engine, options: Mapping[str, Json]) -> dict[str, Json]:
    """What a host must have besides Triton's own image, and be told: for the manifest."""
    own = engine.backend not in STOCK_BACKENDS
    told = [] if own or not options.get("version_compatible") else [VERSION_COMPATIBLE]
    return {
        "compute_capabilities": list(engine.plans),
        **({"backends": [engine.backend]} if own else {}),
        **({"arguments": told} if told else {}),
    }
