from __future__ import annotations

import pytest

from builder.recipe.tasks import REQUIRED, TASKS, complete_inputs, tolerance_keys, tolerances


def test_every_task_has_outputs_and_tolerances():
    for name, task in TASKS.items():
        assert task.name == name
        assert task.outputs
        assert task.truncation == "longest_first" or task.pairs == REQUIRED
        for metric in task.metrics:
            assert tolerances(metric, "fp32")
            assert set(tolerances(metric, "fp32")) <= set(tolerance_keys(task))


def test_what_cannot_be_completed_is_left_to_the_schema():
    assert complete_inputs("text-ranking", None) == {"text_pair": True}
    assert complete_inputs("text-ranking", {"text_pair": False}) == {"text_pair": False}
    for task, inputs in (("text-ranking", [1]), ("text-classification", None), ({}, {"max_length": 3}), ("x", None)):
        assert complete_inputs(task, inputs) == inputs


def test_tolerances_are_a_copy():
    tolerances("cosine", "fp32")["cosine"] = 0
    assert tolerances("cosine", "fp32") == {"cosine": 0.999999}


def test_what_is_not_reached_has_no_tolerance():
    with pytest.raises(KeyError):
        tolerances("cosine", "fp16")
