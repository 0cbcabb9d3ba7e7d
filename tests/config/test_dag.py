from __future__ import annotations

from typing import Any

import pytest

from builder.config.chart import mermaid
from builder.config.dag import Dag, Port, Step, compile_dag, ensemble_steps
from builder.errors import RecipeError

TEXT = Port("TEXT", "BYTES", (1,))
IDS = Port("input_ids", "INT64", (-1,))
MASK = Port("attention_mask", "INT64", (-1,))
LOGITS = Port("LOGITS", "FP32", (3,))


def tokenize(name: str = "tokenize", **inputs: str) -> Step:
    return Step(name, (TEXT,), (IDS, MASK), 8, inputs)


def model(name: str = "model", gives: tuple[Port, ...] = (LOGITS,), batch: int = 8, **inputs: str) -> Step:
    return Step(name, (IDS, MASK), gives, batch, inputs)


def problems(*steps: Step, outputs: Any = ("LOGITS",), max_batch_size: int = 8) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        compile_dag("p", steps, outputs, max_batch_size)
    return [line.removeprefix("pipeline 'p': ") for line in caught.value.message.splitlines()]


def edges(dag: Dag) -> set[str]:
    return {f"{edge.source}.{edge.given.name}>{edge.step}.{edge.taken.name}" for edge in dag.edges}


def test_inputs_are_bound_by_name() -> None:
    dag = compile_dag("p", [tokenize(), model()], ["LOGITS"], 8)
    assert edges(dag) == {
        "request.TEXT>tokenize.TEXT",
        "tokenize.input_ids>model.input_ids",
        "tokenize.attention_mask>model.attention_mask",
    }
    assert dag.inputs == (TEXT,)
    assert dag.outputs == {"LOGITS": ("model", LOGITS)}


def test_one_tokenizer_for_three_models_and_a_join() -> None:
    join = Step(
        "vote",
        tuple(Port(f"LOGITS_{index}", "FP32", (-1,)) for index in range(3)),
        (Port("PROBABILITIES", "FP32", (3,)),),
        8,
        {f"LOGITS_{index}": f"{name}.LOGITS" for index, name in enumerate("abc")},
    )
    dag = compile_dag("p", [tokenize(), *map(model, "abc"), join], {"ANSWER": "vote.PROBABILITIES"}, 4)
    assert {edge.source for edge in dag.edges_into("vote")} == {"a", "b", "c"}
    steps = {
        step["model_name"]: step for step in ensemble_steps(dag, {step.name: f"p-{step.name}" for step in dag.steps})
    }
    assert steps["p-tokenize"]["output_map"] == {
        "input_ids": "tokenize.input_ids",
        "attention_mask": "tokenize.attention_mask",
    }
    assert steps["p-b"]["output_map"] == {"LOGITS": "b.LOGITS"}
    assert steps["p-vote"]["input_map"]["LOGITS_1"] == "b.LOGITS"
    assert steps["p-vote"]["output_map"] == {"PROBABILITIES": "ANSWER"}
    assert {step["model_version"] for step in steps.values()} == {-1}


def test_steps_run_after_what_they_need_in_whatever_order_they_are_written() -> None:
    late = tokenize("late", TEXT="request.TEXT")
    dag = compile_dag(
        "p", [model(input_ids="late.input_ids", attention_mask="late.attention_mask"), late], ["LOGITS"], 8
    )
    assert [step.name for step in dag.steps] == ["late", "model"]


def test_an_output_that_nobody_takes_is_not_mapped() -> None:
    both = model(gives=(LOGITS, Port("HIDDEN", "FP32", (-1, 8))))
    dag = compile_dag("p", [tokenize(), both], ["LOGITS"], 8)
    assert ensemble_steps(dag, {"tokenize": "t", "model": "m"})[1]["output_map"] == {"LOGITS": "LOGITS"}


def test_a_tensor_may_go_to_a_step_and_to_the_client() -> None:
    after = Step("after", (LOGITS,), (Port("LABEL", "BYTES", (1,)),), 8)
    dag = compile_dag("p", [tokenize(), model(), after], ["LABEL", "model.LOGITS"], 8)
    steps = ensemble_steps(dag, {"tokenize": "t", "model": "m", "after": "a"})
    assert steps[1]["output_map"] == {"LOGITS": "LOGITS"}
    assert steps[2]["input_map"] == {"LOGITS": "LOGITS"}


def test_an_optional_input_that_nobody_gives_is_left_out() -> None:
    some = Step("some", (TEXT, Port("PROMPT", "BYTES", (1,), optional=True)), (LOGITS,), 8)
    assert compile_dag("p", [some], ["LOGITS"], 8).inputs == (TEXT,)
    asked = Step("some", some.takes, some.gives, 8, {"PROMPT": "request.PROMPT"})
    assert compile_dag("p", [asked], ["LOGITS"], 8).inputs[1].optional


def test_clients_are_told_the_most_exact_dims() -> None:
    one = Step("one", (Port("X", "FP32", (-1, 4)),), (LOGITS,), 8)
    two = Step("two", (Port("X", "FP32", (3, -1)),), (Port("Y", "FP32", (1,)),), 8)
    assert compile_dag("p", [one, two], ["LOGITS", "Y"], 8).inputs == (Port("X", "FP32", (3, 4)),)


REFUSED = [
    pytest.param(
        [Step("tokenize", (TEXT,), (Port("ids", "BYTES", (1,)), MASK), 8), model("rerank", input_ids="tokenize.ids")],
        "step 'rerank' input 'input_ids' takes INT64 [-1], but 'tokenize' output 'ids' gives BYTES [1]",
        id="dtype",
    ),
    pytest.param(
        [Step("tokenize", (TEXT,), (Port("input_ids", "INT64", (-1, 2)), MASK), 8), model()],
        "step 'model' input 'input_ids' takes INT64 [-1], but 'tokenize' output 'input_ids' gives INT64 [-1, 2]",
        id="rank",
    ),
    pytest.param(
        [tokenize(), model(gives=(Port("X", "FP32", (3,)),)), Step("next", (Port("X", "FP32", (4,)),), (LOGITS,), 8)],
        "step 'next' input 'X' takes FP32 [4], but 'model' output 'X' gives FP32 [3]",
        id="dims",
    ),
    pytest.param(
        [tokenize(), model(batch=4)],
        "step 'model' takes a batch of up to 4, but serving.max_batch_size is 8: lower it, or let the step take more "
        "(models.NAME.shapes.batch.max, or the step's own serving.max_batch_size)",
        id="batch",
    ),
    pytest.param(
        [tokenize(), model("a"), model("b")],
        "output 'LOGITS': write one of a.LOGITS, b.LOGITS",
        id="ambiguous output",
    ),
    pytest.param(
        [tokenize(), tokenize("other"), model(attention_mask="other.attention_mask")],
        "step 'model' input 'input_ids': write under inputs which it takes: tokenize.input_ids or other.input_ids",
        id="ambiguous input",
    ),
    pytest.param(
        [tokenize(), model(input_ids="tokenizer.input_ids")],
        "step 'model' input 'input_ids': there is no step 'tokenizer' (in 'tokenizer.input_ids'); "
        "allowed: tokenize, model, request",
        id="no such step",
    ),
    pytest.param(
        [tokenize(), model(input_ids="tokenize.ids")],
        "step 'model' input 'input_ids': step 'tokenize' gives no 'ids'; it gives input_ids, attention_mask",
        id="no such tensor",
    ),
    pytest.param(
        [tokenize(), model(pixel_values="request.IMAGE")],
        "step 'model' has no input 'pixel_values'; it takes input_ids, attention_mask",
        id="no such input",
    ),
    pytest.param(
        [
            tokenize(),
            tokenize("spare"),
            model(input_ids="tokenize.input_ids", attention_mask="tokenize.attention_mask"),
        ],
        "step 'spare' is of no use: no step takes what it gives, and outputs does not name it",
        id="useless",
    ),
    pytest.param(
        [
            Step("one", (Port("X", "FP32", (1,)),), (Port("Y", "FP32", (1,)),), 8, {"X": "two.X"}),
            Step("two", (Port("Y", "FP32", (1,)),), (Port("X", "FP32", (1,)), LOGITS), 8),
        ],
        "steps wait for each other: one → two → one",
        id="cycle",
    ),
    pytest.param(
        [tokenize(), model(), Step("more", (Port("TEXT", "INT64", (1,)),), (Port("Y", "FP32", (1,)),), 8)],
        "step 'more' input 'TEXT' takes INT64 [1], but step 'tokenize' takes BYTES [1] "
        "for the same tensor 'TEXT' of the request",
        id="one tensor of the request, two types",
    ),
]


@pytest.mark.parametrize(("steps", "expected"), REFUSED)
def test_what_does_not_fit_names_the_edge(steps: list[Step], expected: str) -> None:
    assert expected in problems(*steps)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ((), "it has no outputs"),
        (
            ("EMBEDDING",),
            "output 'EMBEDDING': no step gives 'EMBEDDING'; there are input_ids, attention_mask, LOGITS",
        ),
        ({"A": "model.LOGITS", "B": "model.LOGITS"}, "outputs 'A' and 'B' are one tensor, model.LOGITS: leave one out"),
        ({"TEXT": "model.LOGITS"}, "output 'TEXT' has the name of an input: give it another under outputs"),
    ],
)
def test_outputs_that_clients_cannot_get(outputs: Any, expected: str) -> None:
    assert expected in problems(tokenize(), model(), outputs=outputs)


def test_all_problems_are_told_at_once() -> None:
    assert len(problems(tokenize(TEXT="nobody.TEXT"), model(batch=1), outputs=("X",))) >= 3


def test_the_chart_names_every_step_and_edge() -> None:
    chart = mermaid(compile_dag("p", [tokenize("end"), model()], ["LOGITS"], 8))
    assert chart.startswith("flowchart LR\n")
    assert '  s_end -->|"input_ids INT64"| s_model\n' in chart
    assert '  s_model -->|"LOGITS FP32"| answer\n' in chart
    assert "\n  end[" not in chart  # a word of Mermaid's own
