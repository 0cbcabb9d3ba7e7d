"""What of a model is shipped: its graph, or the plans of its engine, and what a host needs for these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.artifacts import Engine
from builder.core.codec import to_json
from builder.errors import InternalError

if TYPE_CHECKING:
    from builder.artifacts import Json, OnnxModel

STOCK_BACKENDS: Final = ("tensorrt",)
"""Backends of engines that NVIDIA's image has. Ours has to be put into the server's folder of backends: in a model's
folder Triton looks for no Python-based one (``src/backend_model.cc:428`` of triton-inference-server/core 73aad7c)."""


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


def host_needs(engine: Engine) -> dict[str, Json]:
    """What a host must have besides Triton's own image: for the manifest."""
    own = {} if engine.backend in STOCK_BACKENDS else {"backends": [engine.backend]}
    return {"compute_capabilities": list(engine.plans), **own}
