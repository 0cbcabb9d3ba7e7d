"""Which pipelines get a step that takes the request for all others."""

from __future__ import annotations

from dataclasses import replace

from builder.config.dag import Dag, Port, Step, compile_dag, ensemble_steps
from builder.config.receive import settings, with_receiver
from builder.recipe.steps import PythonStep, TokenizerStep

TEXT, HINT = Port("TEXT", "BYTES", (1,)), Port("HINT", "FP32", (-1,), optional=True)
X, Y = Port("X", "INT64", (-1,)), Port("Y", "FP32", (1,))


def pipeline(*steps: Step) -> Dag:
    return compile_dag("p", steps, {step.name: f"{step.name}.{step.gives[0].name}" for step in steps}, 8)


def test_one_step_takes_the_request_for_those_that_would_take_it_at_once() -> None:
    dag, step = with_receiver(
        pipeline(Step("a", (TEXT, HINT), (X,), 8, {"HINT": "request.HINT"}), Step("b", (TEXT,), (Y,), 8))
    )
    assert step is not None
    assert (step.name, step.takes, step.gives, dag.steps[0]) == ("receive", (TEXT,), (TEXT,), step)
    sources = {(edge.step, edge.taken.name): edge.source for edge in dag.edges}
    assert sources == {
        ("receive", "TEXT"): "request",
        ("a", "TEXT"): "receive",
        ("a", "HINT"): "request",
        ("b", "TEXT"): "receive",
    }
    assert [port.name for port in dag.inputs] == ["TEXT", "HINT"]
    maps = {
        one["model_name"]: one["input_map"]["TEXT"] for one in ensemble_steps(dag, {"receive": "r", "a": "a", "b": "b"})
    }
    assert maps == {"r": "TEXT", "a": "receive.TEXT", "b": "receive.TEXT"}


def test_what_the_tokenizers_read_is_text() -> None:
    dag, step = with_receiver(
        pipeline(Step("a", (TEXT,), (X,), 8), Step("b", (TEXT, replace(TEXT, name="RAW")), (Y,), 8))
    )
    assert step is not None
    own = PythonStep.model_construct(takes={}, gives={})
    kinds = {"a": TokenizerStep(tokenizer="m"), "b": own}
    tensors = {"TEXT": [1], "RAW": [1]}
    assert settings(step, dag, kinds) == {"schema": 1, "tensors": tensors, "texts": ["TEXT"]}
    assert settings(step, dag, {"a": own, "b": own})["texts"] == []


def test_steps_that_wait_for_each_other_need_none() -> None:
    one_after_the_other = pipeline(Step("a", (TEXT,), (X,), 8), Step("b", (TEXT, X), (Y,), 8))
    assert with_receiver(one_after_the_other) == (one_after_the_other, None)
    alone = pipeline(Step("a", (TEXT,), (X,), 8))
    assert with_receiver(alone) == (alone, None)


def test_a_step_of_that_name_is_left_alone() -> None:
    _, step = with_receiver(pipeline(Step("receive", (TEXT,), (X,), 8), Step("b", (TEXT,), (Y,), 8)))
    assert step is not None
    assert step.name == "receive-2"
