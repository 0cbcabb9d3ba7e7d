from __future__ import annotations

import pytest

from builder.recipe.tasks import TASKS, tolerance_keys, tolerances


def test_every_task_has_outputs_and_tolerances():
    for name, task in TASKS.items():
        assert task.name == name
        assert task.outputs
        for metric in task.metrics:
            assert tolerances(metric, "fp32")
            assert set(tolerances(metric, "fp32")) <= set(tolerance_keys(task))


def test_tolerances_are_a_copy():
    tolerances("cosine", "fp32")["cosine"] = 0
    assert tolerances("cosine", "fp32") == {"cosine": 0.999999}


def test_what_is_not_reached_has_no_tolerance():
    with pytest.raises(KeyError):
        tolerances("cosine", "fp16")
