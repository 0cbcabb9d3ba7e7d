"""What single backends refuse, or silently ignore.

Source: ``src/onnxruntime.cc`` of triton-inference-server/onnxruntime_backend (00fd3e8). What concerns TensorRT engines
is in :mod:`builder.config.rules_engine`.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from builder.config import rules_engine
from builder.config.host import Host, Problem, Rule, backend

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.artifacts import Json

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
"""All that the C++ onnxruntime backend reads. It ignores anything else without a word, so that a typing error would do
nothing. There is none for thread spinning: onnxruntime's ``session.intra_op.allow_spinning`` cannot be set from a
config."""

_CPU_ACCELERATORS: Final = ("openvino",)
_GPU_ACCELERATORS: Final = ("cuda", "tensorrt")
_LARGE_INTEGERS: Final = tuple(f"TYPE_{sign}INT{bits}" for sign in ("", "U") for bits in (16, 32, 64))


def rules(config: Mapping[str, Json]) -> tuple[Rule, ...]:
    """The rules of the model's backend; none for one that is not known."""
    return _RULES.get(backend(config), ())


def tensor_rules(config: Mapping[str, Json]) -> tuple[Rule, ...]:
    """Those of its rules that need the config's tensors."""
    return _TENSOR_RULES.get(backend(config), ())


def _decoupled(config: Mapping[str, Json], _: Host) -> Iterator[Problem]:
    if config.get("model_transaction_policy", {}).get("decoupled"):
        words = f"is set; a model of {backend(config)} answers each request once"
        yield ("model_transaction_policy", "decoupled"), words


def _parameters(config: Mapping[str, Json], _: Host) -> Iterator[Problem]:
    for key, value in config.get("parameters", {}).items():
        place, text = ("parameters", key), value.get("string_value", "")
        if key not in PARAMETERS:
            near = difflib.get_close_matches(key, PARAMETERS, n=1)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            yield place, f"the onnxruntime backend reads only {', '.join(PARAMETERS)}{guess}"
        elif key in _COUNTS and not (text.isascii() and text.isdecimal()):
            yield place, f"is {text!r}; allowed: a whole number, 0 for as many as there are cores"
        elif key in _FLAGS and text not in {"0", "1"}:
            yield place, f"is {text!r}; allowed: 0, 1"


def _accelerators(config: Mapping[str, Json], host: Host) -> Iterator[Problem]:
    place = ("optimization", "execution_accelerators")
    chosen = config.get("optimization", {}).get("execution_accelerators", {})
    if chosen.get("gpu_execution_accelerator") and not host.gpu:
        yield (*place, "gpu_execution_accelerator"), "is set, but the target has no GPU"
    for field, allowed in (
        ("cpu_execution_accelerator", _CPU_ACCELERATORS),
        ("gpu_execution_accelerator", _GPU_ACCELERATORS),
    ):
        for index, item in enumerate(chosen.get(field, ())):
            if item.get("name") not in allowed:
                words = f"accelerator {item.get('name')!r}; allowed: {', '.join(allowed)}"
                yield (*place, field, index), words


def _optional_inputs(config: Mapping[str, Json], _: Host) -> Iterator[Problem]:
    for index, tensor in enumerate(config["input"]):
        if tensor.get("optional") and config["max_batch_size"]:
            words = "the onnxruntime backend takes optional inputs only of models without a batch axis"
            yield ("input", index, "optional"), words
        if tensor.get("optional") and tensor.get("allow_ragged_batch"):
            yield ("input", index, "optional"), "an optional input cannot be ragged"


def _token_ids(config: Mapping[str, Json], _: Host) -> Iterator[Problem]:
    for index, entry in enumerate(config.get("model_warmup", ())):
        for name, given in entry.get("inputs", {}).items():
            if given.get("random_data") and given.get("data_type") in _LARGE_INTEGERS:
                words = "random bytes are no token ids; take zero_data or input_data_file"
                yield ("model_warmup", index, "inputs", name, "random_data"), words


_ENGINE_RULES: Final = (
    rules_engine.kinds,
    rules_engine.parameters,
    rules_engine.optimization,
    rules_engine.named_profiles,
    rules_engine.shapes,
    rules_engine.graph_specs,
)
_RULES: Final[Mapping[str, tuple[Rule, ...]]] = {
    "onnxruntime": (_decoupled, _parameters, _accelerators),
    "tensorrt": (_decoupled, *_ENGINE_RULES),
    "tensorrt_rtx": (_decoupled, *_ENGINE_RULES),
}
_TENSOR_RULES: Final[Mapping[str, tuple[Rule, ...]]] = {
    "onnxruntime": (_optional_inputs, _token_ids),
    "tensorrt": (_token_ids,),
    "tensorrt_rtx": (_token_ids,),
}
