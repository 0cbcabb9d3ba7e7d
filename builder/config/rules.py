"""What a ModelConfig must hold beyond its fields' types: rules of Triton's core and of its onnxruntime backend.

Each rule yields a sentence. Sources: ``src/model_config_utils.cc`` and ``src/ensemble_scheduler`` of
triton-inference-server/core (73aad7c), ``src/onnxruntime.cc`` of triton-inference-server/onnxruntime_backend (00fd3e8).
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from builder.errors import InternalError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.artifacts import Json

DERIVED: Final = {
    "name": "the recipe's name",
    "platform": "the target's runtime",
    "backend": "the target's runtime",
    "runtime": "the target's runtime",
    "input": "the graph",
    "output": "the graph",
    "default_model_filename": "the graph",
    "cc_model_filenames": "the targets",
    "ensemble_scheduling": "the pipeline",
    "max_batch_size": "serving.max_batch_size",
}
"""Fields that the build derives → from what. A recipe that sets one would contradict its own model."""

_COUNTS: Final = ("intra_op_thread_count", "inter_op_thread_count")
_FLAGS: Final = (
    "execution_mode",
    "enable_mem_arena",
    "enable_mem_pattern",
    "session.use_device_allocator_for_initializers",
)
PARAMETERS: Final = (
    *_COUNTS,
    *_FLAGS,
    "memory.enable_memory_arena_shrinkage",
    "cudnn_conv_algo_search",
    "gpu_mem_limit",
    "arena_extend_strategy",
    "do_copy_in_default_stream",
)
"""All that the C++ backend reads. It ignores anything else without a word, so that a typing error would do nothing.
There is none for thread spinning: onnxruntime's ``session.intra_op.allow_spinning`` cannot be set from a config."""

_CPU_KINDS: Final = ("KIND_AUTO", "KIND_CPU")
_CPU_ACCELERATORS: Final = ("openvino",)


def check_raw(raw: Mapping[str, Json], place: str) -> None:
    """Refuses raw fields that the build derives.

    Raises:
        UserError: there is one.
    """
    for field, origin in DERIVED.items():
        if field in raw:
            raise UserError(f"{place}.{field}: cannot be set here: it follows from {origin}", mend="leave it out")


def check_model(data: Mapping[str, Json], place: str) -> None:
    """Checks the merged config of the model.

    Raises:
        UserError: Triton would refuse it, or do something other than what it says.
    """
    for rule in _RULES:
        for problem in rule(data):
            raise UserError(f"{place}: {problem}")


def _batching(data: Mapping[str, Json]) -> Iterator[str]:
    batching, limit = data.get("dynamic_batching", {}), data["max_batch_size"]
    for size in batching.get("preferred_batch_size", ()):
        if not 1 <= size <= limit:
            yield f"dynamic_batching.preferred_batch_size holds {size}; allowed: 1 to max_batch_size, which is {limit}"
    levels, default = batching.get("priority_levels", 0), batching.get("default_priority_level", 0)
    if levels and not 1 <= default <= levels:
        yield f"dynamic_batching.default_priority_level is {default}; allowed: 1 to priority_levels, which is {levels}"
    if batching.get("preserve_ordering"):
        policies = [batching.get("default_queue_policy", {}), *batching.get("priority_queue_policy", {}).values()]
        if levels > 1:
            yield "dynamic_batching.preserve_ordering and more than one of priority_levels exclude each other"
        if any(policy.get("timeout_action") == "DELAY" for policy in policies):
            yield "dynamic_batching.preserve_ordering and a queue policy with DELAY exclude each other"


def _instances(data: Mapping[str, Json]) -> Iterator[str]:
    for index, group in enumerate(data["instance_group"]):
        kind, place = group.get("kind", _CPU_KINDS[0]), f"instance_group[{index}]"
        if kind not in _CPU_KINDS:
            yield f"{place}.kind is {kind}, but the target has no GPU; allowed: {', '.join(_CPU_KINDS)}"
        if group.get("gpus"):
            yield f"{place}.gpus is set, but the target has no GPU"
        if group.get("profile"):
            yield f"{place}.profile is set; optimisation profiles are TensorRT's alone"
        if group.get("count", 1) < 1:
            yield f"{place}.count is {group['count']}; allowed: 1 or more"


def _versions(data: Mapping[str, Json]) -> Iterator[str]:
    policy = data.get("version_policy", {})
    if "specific" in policy and policy["specific"].get("versions") != [1]:
        yield f"version_policy.specific is {policy['specific']}, but the repository holds version 1 alone"
    if policy.get("latest", {}).get("num_versions", 1) < 1:
        yield "version_policy.latest.num_versions must be 1 or more"


def _cache(data: Mapping[str, Json]) -> Iterator[str]:
    if data.get("model_transaction_policy", {}).get("decoupled"):
        yield "model_transaction_policy.decoupled is set; an onnxruntime model answers each request once"


def _parameters(data: Mapping[str, Json]) -> Iterator[str]:
    for key, value in data["parameters"].items():
        text = value.get("string_value", "")
        if key not in PARAMETERS:
            near = difflib.get_close_matches(key, PARAMETERS, n=1)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            yield f"parameters.{key}: the onnxruntime backend reads only {', '.join(PARAMETERS)}{guess}"
        elif key in _COUNTS and not (text.isascii() and text.isdecimal()):
            yield f"parameters.{key} is {text!r}; allowed: a whole number, 0 for as many as there are cores"
        elif key in _FLAGS and text not in {"0", "1"}:
            yield f"parameters.{key} is {text!r}; allowed: 0, 1"


def _accelerators(data: Mapping[str, Json]) -> Iterator[str]:
    chosen = data.get("optimization", {}).get("execution_accelerators", {})
    if chosen.get("gpu_execution_accelerator"):
        yield "optimization.execution_accelerators.gpu_execution_accelerator is set, but the target has no GPU"
    for item in chosen.get("cpu_execution_accelerator", ()):
        if item.get("name") not in _CPU_ACCELERATORS:
            yield f"optimization: accelerator {item.get('name')!r}; allowed on a CPU: {', '.join(_CPU_ACCELERATORS)}"


def _warmup(data: Mapping[str, Json]) -> Iterator[str]:
    tensors = {tensor["name"]: tensor for tensor in data["input"]}
    for entry in data.get("model_warmup", ()):
        place = f"model_warmup {entry.get('name', '')!r}"
        if set(entry.get("inputs", {})) != set(tensors):
            yield f"{place}: has the inputs {sorted(entry.get('inputs', {}))}; the model has {sorted(tensors)}"
        for name, given in entry.get("inputs", {}).items():
            if given.get("data_type") != tensors.get(name, given).get("data_type"):
                yield f"{place}: {name} is {given.get('data_type')}; the model takes {tensors[name]['data_type']}"
            if not given.get("dims") or min(given["dims"]) < 1:
                yield f"{place}: {name} needs dims that are all 1 or more, without the batch axis"
            if given.get("random_data"):
                yield f"{place}: {name} has random_data: random bytes are no token ids; take zero_data"


_RULES: Final = (_batching, _instances, _versions, _cache, _parameters, _accelerators, _warmup)


def check_ensemble(ensemble: Mapping[str, Json], models: Mapping[str, Mapping[str, Json]]) -> None:
    """Checks an ensemble against the models that it is made of, as Triton does when it loads it.

    Args:
        ensemble: its config.
        models: the configs of the models, by name.

    Raises:
        InternalError: Triton would refuse it: the build makes ensembles, so it is a bug.
    """
    for problem in _ensemble_problems(ensemble, models):
        raise InternalError(f"{ensemble['name']}: {problem}")


def _ensemble_problems(ensemble: Mapping[str, Json], models: Mapping[str, Mapping[str, Json]]) -> Iterator[str]:
    if ensemble.get("platform") != "ensemble" or "backend" in ensemble:
        yield "the platform must be 'ensemble', without a backend"
    for field in ("instance_group", "optimization", "model_warmup"):
        if field in ensemble:
            yield f"{field} is not for ensembles"
    known = {tensor["name"]: tensor for tensor in ensemble["input"]}  # name → who makes it, as a tensor
    used: set[str] = set()
    for step in ensemble["ensemble_scheduling"]["step"]:
        model = models.get(step["model_name"])
        if model is None:
            yield f"step {step['model_name']!r} is no model of the repository"
            return
        yield from _step_problems(step, model, ensemble["max_batch_size"], known)
        used |= set(step["input_map"].values())
    yield from _loose_ends(ensemble, known, used)


def _step_problems(
    step: Mapping[str, Json], model: Mapping[str, Json], batch: int, known: dict[str, Mapping[str, Json]]
) -> Iterator[str]:
    name = step["model_name"]
    if step.get("model_version") != -1:
        yield f"step {name!r} needs model_version -1"
    if model["max_batch_size"] < batch:
        yield f"allows a batch of {batch}, but {name!r} only of {model['max_batch_size']}"
    inputs = {tensor["name"]: tensor for tensor in model["input"]}
    outputs = {tensor["name"]: tensor for tensor in model["output"]}
    if set(step["input_map"]) != set(inputs):
        yield f"step {name!r} maps the inputs {sorted(step['input_map'])}; the model has {sorted(inputs)}"
    for inner, outer in step["input_map"].items():
        if outer not in known:
            yield f"step {name!r} takes {outer!r}, which nothing before it makes"
        elif inner in inputs and not _fit(known[outer], inputs[inner]):
            yield f"step {name!r}: {outer!r} does not fit its input {inner!r}"
    for inner, outer in step["output_map"].items():
        if inner not in outputs:
            yield f"step {name!r} has no output {inner!r}"
        elif outer in known:
            yield f"{outer!r} is made twice"
        else:
            known[outer] = outputs[inner]


def _loose_ends(ensemble: Mapping[str, Json], known: Mapping[str, Mapping[str, Json]], used: set[str]) -> Iterator[str]:
    wanted = {tensor["name"]: tensor for tensor in ensemble["output"]}
    for name in known.keys() - used - wanted.keys():
        yield f"nothing uses {name!r}"
    for name, tensor in wanted.items():
        if name not in known:
            yield f"no step makes the output {name!r}"
        elif not _fit(known[name], tensor):
            yield f"the output {name!r} is not what its step makes"


def _fit(made: Mapping[str, Json], taken: Mapping[str, Json]) -> bool:
    same = made["data_type"] == taken["data_type"] and len(made["dims"]) == len(taken["dims"])
    return same and all(a == b or -1 in {a, b} for a, b in zip(made["dims"], taken["dims"], strict=True))
