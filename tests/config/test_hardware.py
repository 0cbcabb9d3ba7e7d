from __future__ import annotations

import pytest

from builder.config.hardware import default_instances, instance_count, threads_per_instance, tokenizer_threads


@pytest.mark.parametrize(
    ("vcpus", "instances", "threads"),
    [(1, 1, 1), (2, 1, 2), (3, 1, 3), (4, 1, 4), (7, 1, 7), (8, 2, 4), (12, 3, 4), (16, 4, 4), (96, 24, 4)],
)
def test_defaults(vcpus: int, instances: int, threads: int) -> None:
    assert default_instances(vcpus) == instances
    assert threads_per_instance(vcpus, instances) == threads


@pytest.mark.parametrize("vcpus", range(1, 130))
def test_defaults_never_ask_for_more_than_there_is(vcpus: int) -> None:
    instances = default_instances(vcpus)
    assert 1 <= instances * threads_per_instance(vcpus, instances) <= vcpus
    assert 1 <= tokenizer_threads(vcpus) <= vcpus


@pytest.mark.parametrize(("instances", "threads"), [(1, 8), (2, 4), (3, 2), (8, 1), (20, 1)])
def test_threads_follow_the_instances_that_were_asked_for(instances: int, threads: int) -> None:
    assert threads_per_instance(8, instances) == threads


def test_instances_of_all_groups_count() -> None:
    assert instance_count([{"count": 2}, {"count": 3}, {}]) == 6
