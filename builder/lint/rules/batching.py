"""What Triton's core refuses of batch sizes, queues and the response cache.

Lines are those of triton-inference-server/core, r24.10 (server 2.51), ``src/model_config_utils.cc`` where no file is
named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.lint.backend import is_ensemble
from builder.lint.finding import LOAD_ERROR
from builder.lint.python_model import outcome
from builder.lint.rule import Problem, model_rule
from builder.lint.rules.core import CORE
from builder.lint.rules.links import is_decoupled

if TYPE_CHECKING:
    from builder.lint.model import Model, World
    from builder.lint.rule import Problems

_DELAY: Final = 1  # ModelQueuePolicy.TimeoutAction.DELAY


@model_rule(
    "C26",
    LOAD_ERROR,
    "max_batch_size is 0 or more",
    why="The core refuses a negative one.",
    source=f"{CORE}:1411",
)
def batch_size_is_natural(model: Model, _world: World) -> Problems:
    """``max_batch_size`` is not negative."""
    if model.config is not None and model.config.max_batch_size < 0:
        yield Problem(
            f"max_batch_size is {model.config.max_batch_size}; allowed: 0 or more",
            "write 0 for a model that does not batch",
            "max_batch_size",
        )


@model_rule(
    "C9",
    LOAD_ERROR,
    "preferred batch sizes lie between 1 and max_batch_size",
    why="The core refuses others. (Most models need none: the batcher then takes what there is.)",
    source=f"{CORE}:1422-1436,1560-1573",
)
def preferred_sizes_fit(model: Model, _world: World) -> Problems:
    """The sizes of the dynamic batcher and of the oldest-first strategy."""
    if model.config is None:
        return
    limit = model.config.max_batch_size
    for field in ("dynamic_batching", "sequence_batching.oldest"):
        holder = model.config
        for part in field.split("."):
            holder = getattr(holder, part)
        for index, size in enumerate(holder.preferred_batch_size):
            if not 1 <= size <= limit:
                yield Problem(
                    f"{field}.preferred_batch_size holds {size}; allowed: 1 to max_batch_size, which is {limit}",
                    "leave preferred_batch_size out",
                    f"{field}.preferred_batch_size[{index}]",
                )


@model_rule(
    "C19",
    LOAD_ERROR,
    "priorities lie between 1 and priority_levels",
    why="With priority_levels, default_priority_level must be one of them, and each priority_queue_policy too.",
    source=f"{CORE}:1438-1461",
)
def priorities_fit(model: Model, _world: World) -> Problems:
    """``default_priority_level`` and the keys of ``priority_queue_policy``."""
    batching = model.config.dynamic_batching if model.config is not None else None
    if batching is None or not (levels := batching.priority_levels):
        return
    if not 1 <= batching.default_priority_level <= levels:
        yield Problem(
            f"default_priority_level is {batching.default_priority_level}; allowed: 1 to priority_levels ({levels})",
            "set it",
            "dynamic_batching.default_priority_level",
        )
    for level in sorted(batching.priority_queue_policy):
        if not 1 <= level <= levels:
            yield Problem(
                f"priority_queue_policy has the key {level}; allowed: 1 to priority_levels ({levels})",
                "leave it out",
                "dynamic_batching.priority_queue_policy",
            )


@model_rule(
    "C27",
    LOAD_ERROR,
    "preserve_ordering comes without priorities and without delayed requests",
    why="Both would change the order, so the core refuses them together.",
    source=f"{CORE}:1463-1494",
)
def ordering_can_be_kept(model: Model, _world: World) -> Problems:
    """No second priority level, and no policy that delays."""
    batching = model.config.dynamic_batching if model.config is not None else None
    if batching is None or not batching.preserve_ordering:
        return
    place = "dynamic_batching.preserve_ordering"
    if batching.priority_levels > 1:
        yield Problem(f"preserve_ordering with {batching.priority_levels} priority levels", "drop one of them", place)
    if any(_delays(policy) for policy in _policies(batching)):
        yield Problem("preserve_ordering with a queue policy that delays", "set its timeout_action to REJECT", place)


def _policies(batching: Any) -> list[Any]:  # noqa: ANN401 - protobuf messages
    return [batching.default_queue_policy, *batching.priority_queue_policy.values()]


def _delays(policy: Any) -> bool:  # noqa: ANN401 - a protobuf message
    return bool(policy.default_timeout_microseconds and policy.timeout_action == _DELAY)


@model_rule(
    "C28",
    LOAD_ERROR,
    "the response cache is not for sequences or decoupled models",
    why="The core refuses it: one response for one request is what the cache keeps.",
    source=f"{CORE}:1502-1511,1614-1622",
)
def cache_fits(model: Model, world: World) -> Problems:
    """No ``response_cache`` with ``sequence_batching`` or ``decoupled``, which an ensemble is through its steps."""
    if model.config is None or not model.config.response_cache.enable:
        return
    final = outcome(model, world).config or model.config
    if final.HasField("sequence_batching"):
        yield Problem("response_cache with sequence_batching", "leave response_cache out", "response_cache")
    if model.config.model_transaction_policy.decoupled or is_decoupled(model, world):
        yield Problem("response_cache with a decoupled model", "leave response_cache out", "response_cache")


@model_rule(
    "C41",
    LOAD_ERROR,
    "a custom batching library is there, and not for sequences",
    why="The core opens the library at TRITON_BATCH_STRATEGY_PATH when it loads the model. A path is the machine's:"
    " only an empty one is judged here.",
    source="core/src/backend_model.cc:183-210",
)
def batching_library_exists(model: Model, _world: World) -> Problems:
    """``TRITON_BATCH_STRATEGY_PATH`` without sequence batching; a relative one is relative to the server."""
    if model.config is None or "TRITON_BATCH_STRATEGY_PATH" not in model.config.parameters or is_ensemble(model):
        return
    if model.config.HasField("sequence_batching"):
        yield Problem("TRITON_BATCH_STRATEGY_PATH with sequence_batching", "leave it out", "parameters")
    elif not model.config.parameters["TRITON_BATCH_STRATEGY_PATH"].string_value:
        yield Problem("TRITON_BATCH_STRATEGY_PATH is empty", "leave it out", "parameters")


@model_rule(
    "C45",
    LOAD_ERROR,
    "a custom batching library lies in the model's folder",
    why="From 26.06 on the core refuses one from anywhere else.",
    source="core main 73aad7c, src/backend_model.cc:199-206",
    releases=">=26.06",
)
def batching_library_is_inside(model: Model, _world: World) -> Problems:
    """``TRITON_BATCH_STRATEGY_PATH`` does not lead out; an absolute path cannot be judged here."""
    if model.config is not None and "TRITON_BATCH_STRATEGY_PATH" in model.config.parameters:
        path = model.config.parameters["TRITON_BATCH_STRATEGY_PATH"].string_value
        if path and not path.startswith("/"):
            yield Problem(f"TRITON_BATCH_STRATEGY_PATH is {path!r}", "write its absolute path", "parameters")
