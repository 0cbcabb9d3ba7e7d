"""What Triton's core refuses in a config: its spelling, backend, batching and priorities.

Lines are those of triton-inference-server/core, r24.10 (server 2.51), ``src/model_config_utils.cc`` where no file is
named.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final

from builder.lint import backend
from builder.lint.finding import LOAD_ERROR
from builder.lint.python_model import outcome
from builder.lint.rule import Problem, model_rule
from builder.tools import triton_fields

if TYPE_CHECKING:
    from builder.lint.model import Model, World
    from builder.lint.rule import Problems

CORE: Final = "core/src/model_config_utils.cc"

BACKENDS: Final = (
    "python", "onnxruntime", "tensorrt", "pytorch", "openvino", "tensorflow", "dali", "fil", "vllm", "tensorrtllm",
    "identity", "repeat", "square", "torch_aoti", "tensorrt_rtx",
)  # fmt: skip
"""Backends that NVIDIA builds (server, build.py), and the stand-ins that come with tritonsmith."""

_DELAY: Final = 1  # ModelQueuePolicy.TimeoutAction.DELAY


@model_rule(
    "C1",
    LOAD_ERROR,
    "the config is in protobuf's text format, with the fields and values that Triton has",
    why="An unknown field, a lower-case enum value, a field given twice, two schedulers: the server reads none of it.",
    source="core/src/filesystem/api.cc:566; common/protobuf/model_config.proto",
)
def parses(model: Model, _world: World) -> Problems:
    """The config can be parsed."""
    if (problem := model.parse_problem) is not None:
        yield Problem(problem.message, "see model_config.proto for the fields and their spelling", line=problem.line)


@model_rule(
    "C23",
    LOAD_ERROR,
    "every field is known to the release",
    why="A server refuses a config with a field that came after it.",
    source="common/protobuf/model_config.proto, branches r21.05 to r26.07",
)
def fields_are_known(model: Model, _world: World) -> Problems:
    """No field or enum value came after the release."""
    for name, release in triton_fields.FIRST_RELEASE.items():
        word = name.rpartition(".")[2]
        # Looked for in the text first: a field may be there without a value of its own.
        if word in model.text and model.config is not None and _uses(model, word):
            yield Problem(
                f"{word} is known since Triton {release}",
                f"leave it out, or serve with Triton {release} or later",
                model.find_field(word),
                releases=f"<{release}",
            )


def _uses(model: Model, word: str) -> bool:
    return bool(model.find_field(word)) or (word.startswith("TYPE_") and model.mentions(word))


@model_rule(
    "C2",
    LOAD_ERROR,
    "backend and platform say which backend serves the model, and agree",
    why="The core takes the backend from the platform, from default_model_filename or from the files of the first"
    " version; where it cannot, or where both are given and do not belong together, it refuses.",
    source=f"{CORE}:1011,1377-1409; server#6541 #4237 #4200",
)
def has_backend(model: Model, _world: World) -> Problems:
    """The backend is there, and fits the platform."""
    if model.config is None or (not model.config_path and not model.versions):
        return
    found = backend.completed(model)
    pairs = backend.PLATFORMS.get(found.backend)
    if not found.found:
        yield Problem(
            "neither backend nor platform is given, and no file of the first version tells it",
            f"set backend; known ones: {', '.join(BACKENDS)}",
        )
    elif not found.backend and found.platform != backend.ENSEMBLE:
        yield Problem(f"platform {found.platform!r} belongs to no backend", "set backend instead", "platform")
    elif found.backend and found.platform == backend.ENSEMBLE:
        yield Problem(f"an ensemble has no backend, but here it is {found.backend!r}", "leave backend out", "backend")
    elif pairs and found.platform not in pairs:
        yield Problem(
            f"platform {found.platform!r} does not belong to backend {found.backend!r}; allowed: {', '.join(pairs)}",
            "leave platform out",
            "platform",
        )


@model_rule(
    "C24",
    LOAD_ERROR,
    "the backend's name is spelt as Triton spells it",
    why="The server looks for libtriton_<backend>.so, and finds none.",
    source="core/src/backend_model.cc:414",
)
def backend_is_spelt(model: Model, _world: World) -> Problems:
    """The backend is not a misspelt known one."""
    if model.config is None or not (name := model.config.backend) or name in BACKENDS:
        return
    if name == backend.ENSEMBLE:
        yield Problem("there is no backend 'ensemble'", 'write platform: "ensemble" instead', "backend")
        return
    near = difflib.get_close_matches(name.lower(), BACKENDS, n=1, cutoff=0.75)
    if near and not _ships_library(model, name):
        yield Problem(f"no backend is called {name!r}", f"did you mean {near[0]!r}?", "backend")


def _ships_library(model: Model, name: str) -> bool:
    places = ("", *(f"{version}/" for version in model.versions))
    return any(model.tree.is_file(model.path(f"{place}libtriton_{name}.so")) for place in places)


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
    """No ``response_cache`` with ``sequence_batching`` or ``decoupled``."""
    if model.config is None or not model.config.response_cache.enable:
        return
    final = outcome(model, world).config or model.config
    if final.HasField("sequence_batching"):
        yield Problem("response_cache with sequence_batching", "leave response_cache out", "response_cache")
    if model.config.model_transaction_policy.decoupled or final.model_transaction_policy.decoupled:
        yield Problem("response_cache with a decoupled model", "leave response_cache out", "response_cache")


@model_rule(
    "C20",
    LOAD_ERROR,
    "the version policy chooses a version that is there",
    why="Versions that are named but not there are skipped; when none is left, the model is refused.",
    source="core/src/model_repository_manager/model_lifecycle.cc:119-145,455",
)
def policy_chooses(model: Model, _world: World) -> Problems:
    """The policy leaves at least one version."""
    if model.config is not None and model.versions and not model.loaded_versions:
        there = ", ".join(map(str, model.versions))
        yield Problem(
            f"version_policy chooses none of the versions that are there: {there}", "name one of them", "version_policy"
        )


@model_rule(
    "C41",
    LOAD_ERROR,
    "a custom batching library is there, and not for sequences",
    why="The core opens the library at TRITON_BATCH_STRATEGY_PATH when it loads the model.",
    source="core/src/backend_model.cc:183-210",
)
def batching_library_exists(model: Model, _world: World) -> Problems:
    """``TRITON_BATCH_STRATEGY_PATH`` without sequence batching; a relative one is relative to the server."""
    if model.config is None or "TRITON_BATCH_STRATEGY_PATH" not in model.config.parameters:
        return
    if model.config.HasField("sequence_batching"):
        yield Problem("TRITON_BATCH_STRATEGY_PATH with sequence_batching", "leave it out", "parameters")
    elif not model.config.parameters["TRITON_BATCH_STRATEGY_PATH"].string_value:
        yield Problem("TRITON_BATCH_STRATEGY_PATH is empty", "leave it out", "parameters")
