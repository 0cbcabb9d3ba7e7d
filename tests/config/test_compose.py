"""What facts and a section make; and that any config that fits the descriptors is judged, written and read back."""

from __future__ import annotations

import random
from typing import Any

import pytest

from builder.artifacts import Tensor
from builder.config.adopt import adopt
from builder.config.compose import ModelFacts, compose, variant
from builder.config.host import Host
from builder.config.rules import problems
from builder.recipe.triton import names_only
from builder.tools import triton_proto
from builder.tools.triton_check import BOOL, ENUM, FLOATS, MESSAGE, RANGES, is_map, is_repeated

FACTS = ModelFacts("m", (Tensor("A", "FP32", (-1, 4)),), (Tensor("B", "BYTES", (-1, 1)),), 8, backend="python")


def test_facts_alone_make_a_config() -> None:
    assert compose(FACTS, {}) == {
        "name": "m",
        "backend": "python",
        "max_batch_size": 8,
        "input": [{"name": "A", "data_type": "TYPE_FP32", "dims": [4]}],
        "output": [{"name": "B", "data_type": "TYPE_STRING", "dims": [1]}],
    }


def test_without_a_batch_axis_all_axes_are_dims() -> None:
    facts = ModelFacts("m", (Tensor("A", "FP32", (2, 4)),), (), 0, backend="python")
    assert compose(facts, {})["input"][0]["dims"] == [2, 4]


def test_defaults_fill_in_and_parameters_are_merged() -> None:
    defaults = {"dynamic_batching": {}, "parameters": {"a": {"string_value": "1"}, "b": {"string_value": "1"}}}
    made = compose(FACTS, {"parameters": {"b": "2"}}, defaults)
    assert made["dynamic_batching"] == {}
    assert made["parameters"] == {"a": {"string_value": "1"}, "b": {"string_value": "2"}}
    assert compose(FACTS, {"dynamic_batching": False}, defaults)["dynamic_batching"] == {"preferred_batch_size": [1]}
    assert "dynamic_batching" not in compose(FACTS, {"sequence_batching": {"direct": {}}}, defaults)
    assert "sequence_batching" not in variant({"sequence_batching": {}}, {"dynamic_batching": {}})


def test_what_the_server_makes_is_no_input() -> None:
    names = ("A", "START", "STATE", "ENDS")
    inputs = tuple(Tensor(name, "FP32", (-1, 1)) for name in names)
    outputs = tuple(Tensor(name, "FP32", (-1, 1)) for name in ("B", "NEXT"))
    said: dict[str, Any] = {
        "sequence_batching": {
            "control_input": [{"name": "START"}],
            "state": [{"input_name": "STATE", "output_name": "NEXT"}],
        },
        "batch_input": [{"target_name": ["ENDS"]}],
    }
    facts = ModelFacts("m", inputs, outputs, 8, backend="onnxruntime")
    made = compose(facts, said)
    assert [tensor["name"] for tensor in made["input"]] == ["A"]
    assert [tensor["name"] for tensor in made["output"]] == ["B"]
    shown = compose(facts, {**said, "output": [{"name": "NEXT"}]})
    assert [tensor["name"] for tensor in shown["output"]] == ["B", "NEXT"]


def invent(field: Any, source: random.Random, depth: int = 0) -> Any:
    """A value of a field: any that the descriptors allow."""
    if is_map(field):
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        return {str(invent(key, source)): one(value, source, depth) for _ in range(source.randint(0, 2))}
    if is_repeated(field):
        return [one(field, source, depth) for _ in range(source.randint(0, 3))]
    return one(field, source, depth)


def one(field: Any, source: random.Random, depth: int) -> Any:
    kind = field.cpp_type
    if kind == MESSAGE:
        return message(field.message_type, source, depth + 1)
    if kind == ENUM:
        return source.choice([value.name for value in field.enum_type.values])
    if kind in RANGES:
        return source.choice([max(RANGES[kind][0], -1), 0, 1, 4, RANGES[kind][1]])
    if kind in FLOATS:
        return source.choice([0.0, 0.5, -1.5, FLOATS[kind]])
    return source.random() < 0.5 if kind == BOOL else source.choice(["", "A", "B", "0", "8.9"])


def message(descriptor: Any, source: random.Random, depth: int = 0) -> dict[str, Any]:
    share = 0.5 if depth else 0.3
    chosen = [field for field in descriptor.fields if source.random() < share]
    taken: dict[str, Any] = {}
    for field in chosen:
        oneof = field.containing_oneof
        if oneof is None or not any(other.name in taken for other in oneof.fields):
            taken[field.name] = invent(field, source, depth)
    return taken


@pytest.mark.parametrize("seed", range(60))
def test_whatever_fits_the_descriptors_is_judged_written_and_read_back(seed: int) -> None:
    source = random.Random(seed)
    descriptor = triton_proto.parse_text("", place="x").DESCRIPTOR
    data = {**message(descriptor, source), "max_batch_size": source.choice([0, 8])}
    for direction in ("input", "output"):
        for index, tensor in enumerate(data.get(direction, ())):
            tensor["name"] = f"{direction}{index}"
    assert list(triton_proto.problems(data, release="26.07")) == []
    text = triton_proto.to_text(triton_proto.build(data, release="26.07"))
    adopted = adopt(text, place="x")
    made = compose(adopted.facts, names_only(adopted.serving))
    for host in (Host(), Host(gpu=True)):
        assert all(isinstance(path, tuple) and words for path, words in problems(made, host))
    assert triton_proto.to_text(triton_proto.build(made, release="26.07")) == triton_proto.to_text(
        meaning(triton_proto.parse_text(text, place="x"))
    )


def meaning(parsed: Any) -> Any:
    """The message less what says nothing: a cache that is off."""
    if not parsed.response_cache.enable:
        parsed.ClearField("response_cache")
    return parsed
