from __future__ import annotations

import json
from typing import Any

import pytest

from builder.config.dag import Port, Step, compile_dag
from builder.config.ports import ModelPorts, ports
from builder.errors import RecipeError
from builder.recipe.steps import Pipeline

IDS = (Port("input_ids", "INT64", (-1,)), Port("attention_mask", "INT64", (-1,)))
PROBABILITIES = Port("PROBABILITIES", "FP32", (3,))
LOGITS = Port("LOGITS", "FP32", (3,))
CLASSIFIER = ModelPorts(IDS, (LOGITS, PROBABILITIES), labels=3)
MODELS = {
    "a": CLASSIFIER,
    "b": CLASSIFIER,
    "two": ModelPorts(IDS, (Port("LOGITS", "FP32", (2,)), Port("PROBABILITIES", "FP32", (2,))), labels=2),
    "pair": ModelPorts(IDS, (LOGITS,), text_pair=True),
    "qa": ModelPorts(IDS, (Port("START_LOGITS", "FP32", (-1,)), Port("END_LOGITS", "FP32", (-1,))), text_pair=True),
    "ner": ModelPorts(IDS, (Port("LOGITS", "FP32", (-1, 9)),), labels=9),
    "vit": ModelPorts((Port("pixel_values", "FP32", (3, 224, 224)),), (PROBABILITIES,), labels=3),
}


def steps_of(steps: dict[str, Any]) -> tuple[Step, ...]:
    section = Pipeline.model_validate_json(json.dumps({"steps": steps, "outputs": ["X"]}))
    return ports(section.steps, MODELS, dict.fromkeys(steps, 8))


def shown(found: tuple[Port, ...]) -> list[str]:
    return [f"{port.name} {port}" for port in found]


def test_classify_and_name_the_labels() -> None:
    steps = steps_of({"tokenize": {"tokenizer": "a"}, "a": {"model": "a"}, "labels": {"labels": "a", "top_k": 2}})
    assert shown(steps[2].takes) == ["PROBABILITIES FP32 [3]"]
    assert shown(steps[2].gives) == ["LABEL BYTES [2]", "SCORE FP32 [2]"]
    dag = compile_dag("p", steps, ["LABEL", "SCORE"], 8)
    assert shown(dag.inputs) == ["TEXT BYTES [1]"]


def test_question_answering_makes_the_tokenizer_give_places() -> None:
    steps = steps_of({"tokenize": {"tokenizer": "qa"}, "qa": {"model": "qa"}, "spans": {"spans": "qa"}})
    assert shown(steps[0].gives)[2:] == [
        "OFFSETS INT64 [-1, 2]",
        "SEQUENCE_IDS INT64 [-1]",
        "WORD_IDS INT64 [-1]",
    ]
    dag = compile_dag("p", steps, ["ANSWER", "SCORE", "START", "END"], 8)
    assert shown(dag.inputs) == ["TEXT BYTES [1]", "TEXT_PAIR BYTES [1]"]
    alone = steps_of({"tokenize": {"tokenizer": "qa"}, "qa": {"model": "qa"}})
    assert shown(alone[0].gives) == ["input_ids INT64 [-1]", "attention_mask INT64 [-1]"]


def test_entities() -> None:
    steps = steps_of({"tokenize": {"tokenizer": "ner"}, "ner": {"model": "ner"}, "entities": {"entities": "ner"}})
    compile_dag("p", steps, ["ENTITIES"], 8)
    assert [port.name for port in steps[0].gives[2:]] == ["OFFSETS", "SEQUENCE_IDS", "WORD_IDS"]


def test_an_image_classifier() -> None:
    steps = steps_of({"pixels": {"image": "vit"}, "vit": {"model": "vit"}, "labels": {"labels": "vit"}})
    assert shown(compile_dag("p", steps, ["LABEL"], 8).inputs) == ["IMAGE BYTES [1]"]


def test_a_vote_joins_a_list() -> None:
    steps = steps_of(
        {
            "tokenize": {"tokenizer": "a"},
            "a": {"model": "a"},
            "b": {"model": "b"},
            "vote": {"aggregate": "vote", "inputs": {"PROBABILITIES": ["a.PROBABILITIES", "b.PROBABILITIES"]}},
            "labels": {"labels": "a", "inputs": {"PROBABILITIES": "vote.PROBABILITIES"}},
        }
    )
    dag = compile_dag("p", steps, ["LABEL"], 8)
    assert [edge.source for edge in dag.edges_into("vote")] == ["a", "b"]


def test_a_selection_takes_what_all_its_models_take() -> None:
    steps = steps_of(
        {
            "language": {
                "python": "language.py",
                "takes": {"TEXT": {"dtype": "BYTES", "dims": [1]}},
                "gives": {"LANGUAGE": {"dtype": "BYTES", "dims": [1]}},
            },
            "answer": {"select": {"by": "language.LANGUAGE", "cases": {"de": "a", "en": "b"}, "default": "b"}},
        }
    )
    assert shown(steps[1].takes) == ["LANGUAGE BYTES [1]", "TEXT BYTES [1]"]
    dag = compile_dag("p", steps, ["PROBABILITIES"], 8)
    assert [edge.source for edge in dag.edges_into("answer")] == ["language", "request"]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"model": "c"}, "step 'x': there is no model 'c' under models; allowed: a, b, two, pair, qa, ner, vit"),
        ({"labels": "a", "top_k": 4}, "step 'x': top_k is 4, but 'a' has 3 labels"),
        ({"aggregate": "mean"}, "step 'x': aggregate takes one list under inputs"),
        ({"model": "a", "inputs": {"input_ids": ["t.a"]}}, "step 'x' input 'input_ids': only aggregate takes a list"),
        (
            {"select": {"by": "request.KIND", "cases": {"1": "a", "2": "two"}}},
            (
                "step 'x': 'a' gives LOGITS FP32 [3], PROBABILITIES FP32 [3], but 'two' gives LOGITS FP32 [2], "
                "PROBABILITIES FP32 [2]: whichever is chosen must give the same tensors"
            ),
        ),
    ],
)
def test_what_a_step_cannot_be(step: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        steps_of({"x": step})
    assert caught.value.message.startswith(expected)


def test_labels_of_another_model_do_not_fit() -> None:
    steps = steps_of({"tokenize": {"tokenizer": "two"}, "two": {"model": "two"}, "labels": {"labels": "a"}})
    with pytest.raises(RecipeError, match=r"takes FP32 \[3\], but 'two' output 'PROBABILITIES' gives FP32 \[2\]"):
        compile_dag("p", steps, ["LABEL"], 8)
