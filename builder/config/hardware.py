"""Instances and threads: they follow the machine that will serve, never the one that builds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.tools import gpus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.artifacts import Json
    from builder.recipe import Recipe
    from builder.recipe.composed import Composed


def target_vcpus(recipe: Recipe | Composed, target: str) -> int:
    """Virtual CPUs of the machine that will serve; this one's where the recipe does not say."""
    return recipe.targets[target].hardware.declared_vcpus or len(os.sched_getaffinity(0))


def gpu_memory(names: Sequence[str]) -> int | None:
    """MiB of the smallest of some GPUs; None: there is none, or it is not known of all."""
    known = [gpus.load_gpus()[name].memory_mib for name in names]
    sizes = [size for size in known if size is not None]
    return min(sizes) if sizes and len(sizes) == len(known) else None


def default_instances(vcpus: int) -> int:
    """Copies of a model on a CPU: one for each four virtual CPUs, at least one.

    Measured with all-MiniLM-L6-v2 on two cores: one instance with two threads has the best latency and the full
    throughput (about 130 inferences/s); two instances with two threads each fight for the cores and reach half of it.
    A few threads per instance keep a single request fast; more instances keep many requests from queueing.
    """
    return max(1, vcpus // 4)


def threads_per_instance(vcpus: int, instances: int) -> int:
    """Threads of each instance, so that all of them together never exceed the virtual CPUs, as far as that can be."""
    return max(1, vcpus // instances)


def tokenizer_threads(vcpus: int, *, gpu: bool = False) -> int:
    """Threads of the tokenizer step: one for each four virtual CPUs, at least one; beside a GPU, for each two.

    A text takes it a hundredth of the model's time, so it needs few; and on a small machine, threads of its own would
    fight with the model's. A model on a GPU leaves the CPUs alone, and takes texts many times as fast: half of the CPUs
    are then for the tokenizer, the others for the server and its copies.
    """
    return max(1, vcpus // (2 if gpu else 4))


def instance_count(groups: Sequence[Json]) -> int:
    """Copies of a model in all of its instance groups; a group without a count has one (on a CPU)."""
    return sum(group.get("count", 1) for group in groups) or 1


def share(vcpus: int, at_once: int) -> int:
    """The virtual CPUs of each of several models that run at the same time for one request: at least one."""
    return max(1, vcpus // at_once)
