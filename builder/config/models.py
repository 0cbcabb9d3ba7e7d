"""The ModelConfigs of an ensemble and its two models, as JSON data with Triton's own names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from builder.artifacts import Tensor
from builder.config import engines
from builder.config.compose import ModelFacts, compose, server_inputs, strings, variant
from builder.config.hardware import default_instances, instance_count, threads_per_instance, tokenizer_threads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.artifacts import Json
    from builder.config.engines import EngineFacts
    from builder.config.host import Problem

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
    engine: EngineFacts | None = None  # of a target with a GPU
    other_model: str = ""  # the model has this name: another ensemble brings it

    @property
    def tokenize_name(self) -> str:
        return f"{self.name}-tokenize"

    @property
    def model_name(self) -> str:
        return self.other_model or f"{self.name}-model"

    @property
    def texts(self) -> tuple[str, ...]:
        """The tensors that clients send."""
        return (TEXT, TEXT_PAIR) if self.text_pair else (TEXT,)


def ensemble(facts: Facts, model_config: Mapping[str, Json]) -> dict[str, Json]:
    """``<name>``: text in, the model's outputs out, as its config shows them."""
    tokens = [tensor.name for tensor in facts.inputs]
    shown = {tensor["name"]: tuple(tensor["dims"]) for tensor in model_config["output"]}
    outputs = tuple(replace(out, shape=(-1, *shown[out.name])) for out in facts.outputs if out.name in shown)
    steps = [_step(facts.tokenize_name, facts.texts, tokens), _step(facts.model_name, tokens, list(shown))]
    known = ModelFacts(
        facts.name, _texts(facts), outputs, facts.max_batch_size, platform="ensemble", scheduling={"step": steps}
    )
    # The cache is here, so that a hit saves the tokenizer too: ensembles can since 24.05, before all known releases.
    return compose(known, {key: facts.serving.get(key) for key in ("version_policy", "response_cache")})


def tokenize(facts: Facts) -> dict[str, Json]:
    """``<name>-tokenize``: the Python step. It never waits for more texts: that would add to the model's own delay."""
    known = ModelFacts(facts.tokenize_name, _texts(facts), facts.inputs, facts.max_batch_size, backend="python")
    gathers = facts.serving.get("dynamic_batching") is not False
    own = facts.serving.get("steps", {}).get("tokenize", {})
    groups = own.get("instance_group") or [{}]
    threads = {"tokenizer_threads": str(tokenizer_threads(facts.vcpus, gpu=facts.engine is not None))}
    said = {
        "version_policy": facts.serving.get("version_policy"),
        "instance_group": [
            {**group, "count": group.get("count") or 1, "kind": group.get("kind") or "KIND_CPU"} for group in groups
        ],
        "dynamic_batching": {} if gathers else False,
        "parameters": {**threads, **own.get("parameters", {})},
    }
    return compose(known, said)


def model(facts: Facts, warmup: Sequence[Json] = ()) -> dict[str, Json]:
    """``<name>-model``: the graph on onnxruntime, or its engine, with all that ``serving`` says."""
    warmed = {"model_warmup": list(warmup)} if warmup else {}
    said = {**facts.serving, "response_cache": None}
    if facts.engine is not None:
        said["instance_group"] = engines.instance_groups(facts.engine, facts.serving.get("instance_group"))
        made = {"dynamic_batching": {}, **engines.defaults(facts.engine), **warmed}
        return engines.with_graphs(compose(facts_of_model(facts), said, made), facts.engine)
    said["instance_group"] = groups = _instance_groups(facts)
    threads = threads_per_instance(facts.vcpus, instance_count(facts.serving["config"].get("instance_group") or groups))
    defaults = {
        "dynamic_batching": {},
        "parameters": strings({"intra_op_thread_count": str(threads), "inter_op_thread_count": "1"}),
        **warmed,
    }
    return compose(facts_of_model(facts), said, defaults)


def facts_of_model(facts: Facts) -> ModelFacts:
    """What the build knows of ``<name>-model``."""
    return ModelFacts(
        facts.model_name,
        facts.inputs,
        facts.outputs,
        facts.max_batch_size,
        backend=facts.engine.backend if facts.engine else engines.ONNXRUNTIME,
        model_filename=facts.engine.model_file if facts.engine else MODEL_FILE,
    )


def variants(facts: Facts, config: Mapping[str, Json]) -> dict[str, dict[str, Json]]:
    """The model's other configs, by name: ``serving.configs`` over its ``config.pbtxt``."""
    named = facts.serving.get("configs") or {}
    return {name: variant(config, fields) for name, fields in named.items()}


def tokenizer_problems(facts: Facts, config: Mapping[str, Json]) -> Iterator[Problem]:
    """What a section says of the model's inputs that the tokenizer makes otherwise."""
    made = {tensor.name: list(tensor.shape[1:]) for tensor in facts.inputs}
    for place, name in server_inputs(config).items():
        yield place, f"{name!r} " + ("is made by the tokenizer" if name in made else "is no input of the graph")
    for index, entry in enumerate(facts.serving.get("input") or ()):
        if entry.get("dims", made.get(entry["name"])) != made.get(entry["name"]):
            yield ("input", index, "dims"), f"is {entry['dims']}; the tokenizer makes {made.get(entry['name'])}"


def _texts(facts: Facts) -> tuple[Tensor, ...]:
    return tuple(Tensor(name, "BYTES", (-1, 1)) for name in facts.texts)


def _step(name: str, inputs: Sequence[str], outputs: Sequence[str]) -> dict[str, Json]:
    return {
        "model_name": name,
        "model_version": -1,  # left out it would be 0, a version that does not exist
        "input_map": {tensor: tensor for tensor in inputs},
        "output_map": {tensor: tensor for tensor in outputs},
    }


def _instance_groups(facts: Facts) -> list[Json]:
    """KIND_AUTO: without a GPU it means the CPU, so that it loads everywhere."""
    asked = facts.serving.get("instance_group") or [{"count": default_instances(facts.vcpus)}]
    return [{**group, "count": group.get("count") or 1, "kind": group.get("kind") or "KIND_AUTO"} for group in asked]
