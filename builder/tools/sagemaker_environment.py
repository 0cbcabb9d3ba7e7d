"""The environment of Triton's container on SageMaker: planned in one place.

``serve``, the script that SageMaker starts, turns the variables ``SAGEMAKER_TRITON_*`` into options of tritonserver.
Sources are lines of ``docker/sagemaker/serve`` and ``src/sagemaker_server.*`` in
github.com/triton-inference-server/server at e1db8a6; limits are those of EnvironmentMap in SageMaker's API.
What an environment says in vain is in :mod:`builder.tools.sagemaker_checks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREFIX: Final = "SAGEMAKER_TRITON_"
DEFAULT_MODEL: Final = f"{PREFIX}DEFAULT_MODEL_NAME"
ARGUMENTS: Final = f"{PREFIX}ADDITIONAL_ARGS"
PING: Final = (f"{PREFIX}PING_MODE", f"{PREFIX}OVERRIDE_PING_MODE")
LOG_VERBOSE: Final = f"{PREFIX}LOG_VERBOSE"
INFERENCE_TYPE: Final = f"{PREFIX}INFERENCE_TYPE"
NAMESPACING: Final = f"{PREFIX}DISABLE_MODEL_NAMESPACING"
MULTI_MODEL: Final = "SAGEMAKER_MULTI_MODEL"

ENTRIES_LIMIT: Final = 100
VALUE_LIMIT: Final = 1024  # characters
CACHE_BYTES: Final = 64 << 20
"""Size of the response cache where a config asks for one: Triton has none without a size."""

INFERENCE_TYPES: Final = ("infer", "generate", "generate_stream")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the container is to do.

    Args:
        default_model: what ``/invocations`` asks; empty on a multi-model endpoint.
        load_models: models that have to be loaded by name beside it: those that a step calls.
        response_cache: whether a config asks for it.
        rate_limiter: whether a config asks for it.
        inference_type: of ``/invocations``.
        arguments: further options of tritonserver.
        more: further variables; they win.
    """

    default_model: str = ""
    load_models: Sequence[str] = ()
    response_cache: bool = False
    rate_limiter: bool = False
    inference_type: str = "infer"
    arguments: Sequence[str] = ()
    more: Mapping[str, str] | None = None


def plan(wanted: Wanted) -> dict[str, str]:
    """The variables of the container, sorted by name. ``more`` may say anything: hold them against ``check``."""
    multi = not wanted.default_model
    made = {LOG_VERBOSE: "false"}
    if multi:
        # serve sets the mode without exporting it (lines 32-57): the server reads the second.
        made |= dict.fromkeys(PING, "live")
    else:
        made[DEFAULT_MODEL] = wanted.default_model
    if wanted.inference_type != "infer":
        made[INFERENCE_TYPE] = wanted.inference_type
    words = _arguments(wanted)
    if words:
        made[ARGUMENTS] = " ".join(words)
    return dict(sorted({**made, **(wanted.more or {})}.items()))


def _arguments(wanted: Wanted) -> tuple[str, ...]:
    loads = [f"--load-model={name}" for name in wanted.load_models if name != wanted.default_model]
    cache = [f"--cache-config=local,size={CACHE_BYTES}"] if wanted.response_cache else []
    rate = ["--rate-limit=execution_count"] if wanted.rate_limiter else []
    stated = {word.partition("=")[0] for word in wanted.arguments}
    derived = [word for word in (*cache, *rate) if word.partition("=")[0] not in stated]
    return (*loads, *derived, *wanted.arguments)
