"""What the config of a TensorRT engine says by itself: instances, profiles, memory, CUDA graphs.

Sources are files and lines of github.com/triton-inference-server: ``tensorrt_backend`` at e2ef6d7, ``core`` at 73aad7c,
``backend`` at 3f57fb9. What is left at Triton's default, and why, is in ``docs/reference/serving.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from builder.config import tokenize_step
from builder.config.compose import strings
from builder.core.codec import to_json
from builder.tools import engine_profiles as profiles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.artifacts import Engine, Json, Profile

ONNXRUNTIME: Final = "onnxruntime"

_VERSION: Final = 1  # of what this module and engine_warmup write; raised with their bytes

INSTANCES: Final = 2
"""Copies on each GPU: while one runs, the next batch is copied to the other, and the GPU never waits. More copies only
share its time, and each has its own copy of the weights, for engines with dynamic shapes are not shared
(``tensorrt_backend/src/model_state.cc:247``)."""

_OF_THE_MEMORY: Final = 0.5  # that the weights of all copies may take; the rest is for activations, and for others

GRAPH_BATCHES: Final = (1, 2, 3, 4, 6, 8, 12, 16)
"""Batch sizes that CUDA graphs are made for: the backend's own list (``src/instance_state.cc:3722``)."""

_STRATEGY: Final = "execution_context_allocation_strategy"
_STRATEGY_SINCE: Final = "25.05"  # the first branch of tensorrt_backend that reads it; our own backend always does


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What is known of an engine and of the shapes that it will get.

    Args:
        backend: tensorrt | tensorrt_rtx.
        profiles: empty: not known yet.
        plans: compute capability → file; empty: not known yet.
        lengths: tokens that the rows of a batch may have, ascending; empty: no such axis, or not known yet.
        fixed: whether there are no other lengths than ``lengths``; else they stand for a range.
        release: of Triton, ``25.09``.
        instances: copies on each GPU, where the recipe does not say.
    """

    backend: str
    profiles: tuple[Profile, ...] = ()
    plans: Mapping[str, str] | None = None
    lengths: tuple[int, ...] = ()
    fixed: bool = False
    release: str = ""
    instances: int = INSTANCES

    @property
    def largest_batch(self) -> int:
        """The largest ``max_batch_size`` that the profiles allow."""
        return profiles.largest_batch(self.profiles, self.lengths)

    @property
    def model_file(self) -> str:
        """The plan for every GPU; empty where each compute capability has its own."""
        names = set((self.plans or {}).values())
        return names.pop() if len(names) == 1 else ""


def instances(engine: Engine, memory_mib: int | None) -> int:
    """Copies on each GPU: two, or one where the weights of two leave too little for anything else.

    Args:
        engine: its largest plan stands for the weights.
        memory_mib: of the target's smallest GPU; None: unknown.
    """
    weights = INSTANCES * max(file.size for file in engine.files.values())
    return 1 if memory_mib is not None and weights > _OF_THE_MEMORY * (memory_mib << 20) else INSTANCES


def facts_of(
    engine: Engine, settings: Mapping[str, Json] | None, release: str, memory_mib: int | None = None
) -> EngineFacts:
    """An engine, and the shapes that it will get.

    Args:
        engine: as it was built.
        settings: of the tokenizer step; None: its inputs are no texts.
        release: of Triton.
        memory_mib: of the target's smallest GPU; None: unknown.
    """
    copies = instances(engine, memory_mib)
    known = EngineFacts(engine.backend, engine.profiles, engine.plans, release=release, instances=copies)
    if settings is None:
        return known
    if lengths := tokenize_step.lengths(settings):
        return replace(known, lengths=lengths, fixed=True)
    least, longest = settings["minimum_length"], settings["max_length"]
    return replace(known, lengths=profiles.every_length(engine.profiles, least, longest))


def fingerprint(engine: Engine, memory_mib: int | None) -> Mapping[str, Json]:
    """What of an engine a config depends on: not the bytes of its plans."""
    return {
        "version": _VERSION,
        "instances": instances(engine, memory_mib),
        "runtime": engine.runtime,
        "plans": dict(engine.plans),
        "files": sorted(engine.files),
        "profiles": [to_json(profile) for profile in engine.profiles],
    }


def defaults(facts: EngineFacts) -> dict[str, Json]:
    """Fields of the ModelConfig that a recipe need not say."""
    made: dict[str, Json] = {}
    if facts.plans and not facts.model_file:
        made["cc_model_filenames"] = dict(facts.plans)
    known = facts.backend != "tensorrt" or facts.release >= _STRATEGY_SINCE
    if known and len(facts.profiles) > 1:
        # There is a context for each profile (src/instance_state.cc:2154): each needs the memory of its own alone.
        made["parameters"] = strings({_STRATEGY: "ON_PROFILE_CHANGE"})
    return made


def instance_groups(facts: EngineFacts, asked: Sequence[Json] | None) -> list[Json]:
    """Groups on all GPUs of the machine, each with all profiles.

    Without ``profile`` the backend makes a context for profile 0 alone (``src/instance_state.cc:2143``). Triton's core
    refuses the field for any platform but ``tensorrt_plan`` (``core/src/model_config_utils.cc:1792``), so the backend
    ``tensorrt_rtx`` takes all profiles by itself.
    """
    groups = []
    for group in asked or [{"count": facts.instances}]:
        full = {**group, "count": group.get("count") or 1, "kind": group.get("kind") or "KIND_GPU"}
        if facts.backend == "tensorrt" and facts.profiles:
            full["profile"] = group.get("profile") or [str(index) for index in range(len(facts.profiles))]
        groups.append(full)
    return groups


def with_graphs(config: Mapping[str, Json], facts: EngineFacts) -> dict[str, Json]:
    """The config with a ``graph_spec`` for each length and batch size, where CUDA graphs are asked for without one.

    By itself the backend makes graphs at each profile's optimal length alone, for batches of 1, the preferred sizes and
    the largest (``src/instance_state.cc:3683-3736``, ``:4053``). With ``graph_lower_bound`` a graph also runs the
    smaller batches down to the next graph's (``:3634``). A spec that does not name all inputs gives no graph
    (``:4104``). Each is tried on the context of each profile: where it does not fit, the log says so, and nothing else
    happens (``:3892``).
    """
    optimization = config.get("optimization", {})
    cuda = optimization.get("cuda", {})
    if facts.backend != "tensorrt" or not cuda.get("graphs") or cuda.get("graph_spec") or not facts.fixed:
        return dict(config)
    sizes = [size for size in GRAPH_BATCHES if size <= config["max_batch_size"]]
    specs = [
        _graph_spec(config["input"], length, size, least)
        for length in facts.lengths
        for least, size in zip([1, *(size + 1 for size in sizes)], sizes, strict=False)
    ]
    return {**config, "optimization": {**optimization, "cuda": {**cuda, "graph_spec": specs}}}


def _graph_spec(inputs: Sequence[Json], length: int, size: int, least: int) -> dict[str, Json]:
    shapes = {tensor["name"]: {"dim": [length if dim == -1 else dim for dim in tensor["dims"]]} for tensor in inputs}
    spec: dict[str, Json] = {"batch_size": size, "input": shapes}
    return spec if least == size else {**spec, "graph_lower_bound": {"batch_size": least, "input": shapes}}
