from __future__ import annotations

from itertools import pairwise

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


def test_less_precision_is_never_held_to_more():
    order = ("fp32", "fp16", "bf16", "int8")
    for task in TASKS.values():
        for metric in task.metrics:
            for closer, farther in pairwise(order):
                limits, wider = tolerances(metric, closer), tolerances(metric, farther)
                assert limits.keys() <= wider.keys()
                assert all((wider[key] - limits[key]) * (1 if "difference" in key else -1) >= 0 for key in limits)


def test_tf32_is_held_to_what_fp16_is():
    assert tolerances("cosine", "fp32", tf32=True) == tolerances("cosine", "fp16")
    assert tolerances("cosine", "int8", tf32=True) == tolerances("cosine", "int8")


def test_what_does_not_exist_has_no_tolerance():
    with pytest.raises(KeyError):
        tolerances("cosine", "fp4")
