"""The ModelConfigs of an ensemble and its two models, as JSON data with Triton's own names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.config.hardware import default_instances, instance_count, threads_per_instance, tokenizer_threads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.artifacts import Json, Tensor

TEXT: Final = "TEXT"
TEXT_PAIR: Final = "TEXT_PAIR"
MODEL_FILE: Final = "model.onnx"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the configs are made of."""

    name: str  # the ensemble
    inputs: tuple[Tensor, ...]  # the model's, from its graph
    outputs: tuple[Tensor, ...]
    text_pair: bool
    max_batch_size: int
    vcpus: int  # of the machine that will serve
    serving: Mapping[str, Json]  # the recipe's section

    @property
    def tokenize_name(self) -> str:
        return f"{self.name}-tokenize"

    @property
    def model_name(self) -> str:
        return f"{self.name}-model"

    @property
    def texts(self) -> tuple[str, ...]:
        """The tensors that clients send."""
        return (TEXT, TEXT_PAIR) if self.text_pair else (TEXT,)


def ensemble(facts: Facts) -> dict[str, Json]:
    """``<name>``: text in, the model's outputs out."""
    return {
        "name": facts.name,
        "platform": "ensemble",
        "max_batch_size": facts.max_batch_size,
        **_version_policy(facts),
        "input": _texts(facts),
        "output": [_tensor(tensor) for tensor in facts.outputs],
        # Here, so that a hit saves the tokenizer too: ensembles can since 24.05, which is before all known releases.
        **({"response_cache": {"enable": True}} if facts.serving["response_cache"]["enable"] else {}),
        "ensemble_scheduling": {
            "step": [
                _step(facts.tokenize_name, facts.texts, [tensor.name for tensor in facts.inputs]),
                _step(facts.model_name, [tensor.name for tensor in facts.inputs], [out.name for out in facts.outputs]),
            ]
        },
    }


def tokenize(facts: Facts) -> dict[str, Json]:
    """``<name>-tokenize``: the Python step. It never waits for more texts: that would add to the model's own delay."""
    return {
        "name": facts.tokenize_name,
        "backend": "python",
        "max_batch_size": facts.max_batch_size,
        **_version_policy(facts),
        "input": _texts(facts),
        "output": [_tensor(tensor) for tensor in facts.inputs],
        "instance_group": [{"count": 1, "kind": "KIND_CPU"}],
        "dynamic_batching": _no_gathering() if facts.serving["dynamic_batching"] is False else {},
        "parameters": _strings({"tokenizer_threads": str(tokenizer_threads(facts.vcpus))}),
    }


def model(facts: Facts, warmup: Sequence[Json] = ()) -> dict[str, Json]:
    """``<name>-model``: the graph on onnxruntime. ``serving.config`` is merged in last."""
    raw = facts.serving["config"]
    groups = raw.get("instance_group") or _instance_groups(facts)
    data: dict[str, Json] = {
        "name": facts.model_name,
        "backend": "onnxruntime",
        "default_model_filename": MODEL_FILE,
        "max_batch_size": facts.max_batch_size,
        **_version_policy(facts),
        "input": [_tensor(tensor) for tensor in facts.inputs],
        "output": [_tensor(tensor) for tensor in facts.outputs],
        "instance_group": groups,
        "dynamic_batching": _dynamic_batching(facts.serving["dynamic_batching"]),
        "parameters": _strings(
            {
                "intra_op_thread_count": str(threads_per_instance(facts.vcpus, instance_count(groups))),
                "inter_op_thread_count": "1",
                **facts.serving["parameters"],
            }
        ),
        **({"model_warmup": list(warmup)} if warmup else {}),
    }
    return merge(data, raw)


def merge(base: Mapping[str, Json], over: Mapping[str, Json]) -> dict[str, Json]:
    """``over`` over ``base``: mappings are merged key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _texts(facts: Facts) -> list[Json]:
    return [{"name": name, "data_type": "TYPE_STRING", "dims": [1]} for name in facts.texts]


def _tensor(tensor: Tensor) -> dict[str, Json]:
    """Without the batch axis, which ``max_batch_size`` stands for."""
    kind = "TYPE_STRING" if tensor.dtype == "BYTES" else f"TYPE_{tensor.dtype}"
    return {"name": tensor.name, "data_type": kind, "dims": list(tensor.shape[1:])}


def _step(name: str, inputs: Sequence[str], outputs: Sequence[str]) -> dict[str, Json]:
    return {
        "model_name": name,
        "model_version": -1,  # left out it would be 0, a version that does not exist
        "input_map": {tensor: tensor for tensor in inputs},
        "output_map": {tensor: tensor for tensor in outputs},
    }


def _strings(values: Mapping[str, str]) -> dict[str, Json]:
    return {key: {"string_value": value} for key, value in values.items()}


def _version_policy(facts: Facts) -> dict[str, Json]:
    policy = facts.serving["version_policy"]
    return {} if policy is None else {"version_policy": policy}


def _instance_groups(facts: Facts) -> list[Json]:
    """KIND_AUTO: without a GPU it means the CPU, so that it loads everywhere."""
    asked = facts.serving["instance_group"] or [{"count": default_instances(facts.vcpus), "kind": None}]
    return [{"count": group["count"], "kind": group["kind"] or "KIND_AUTO"} for group in asked]


def _dynamic_batching(asked: Json) -> dict[str, Json]:
    """The scheduler, always explicit: Triton completes a config without one, and then gathers."""
    if asked is False:
        return _no_gathering()
    return {key: value for key, value in (asked or {}).items() if value}


def _no_gathering() -> dict[str, Json]:
    """No request shares an execution with another.

    There is no field that says so. But with a preferred size of 1 and no delay, the batcher closes each batch when it
    holds one request (``GetDynamicBatch`` in ``src/dynamic_batch_scheduler.cc`` of triton-inference-server/core).
    """
    return {"preferred_batch_size": [1]}
