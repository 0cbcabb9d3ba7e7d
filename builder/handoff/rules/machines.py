"""What instances have, and what archives need of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.handoff.rule import ADVICE, ERROR, Problem, rule
from builder.tools import gpus

if TYPE_CHECKING:
    from builder.handoff.plan import Facts
    from builder.handoff.rule import Problems, World
    from builder.tools.gpus import Instance

_EC2: Final = "builder/tools/data/instances.json"
_MARGIN: Final = 0.8
"""Share of a memory that weights may fill before what computes with them has too little."""


@rule(
    "V4",
    ERROR,
    "there is a plan for the GPU of each instance",
    why="a plan is loaded by GPUs of the compute capability that it was compiled for",
    source="tensorrt_backend, cc_model_filenames; docs.nvidia.com/deeplearning/tensorrt",
)
def plans_for_gpus(world: World) -> Problems:
    for one in world.plan.archives:
        for instance in world.known if one.capabilities else ():
            if not instance.gpus:
                yield Problem(instance.name, f"has no GPU; {one.file} needs one", "name an instance with a GPU")
                continue
            capability = gpus.load_gpus()[str(instance.gpu)].compute_capability
            if capability not in one.capabilities and not one.any_gpu:
                said = f"has {instance.gpu} ({capability}); {one.file} has plans for {', '.join(one.capabilities)}"
                yield Problem(instance.name, said, "build a target for that GPU, or name another instance")


@rule(
    "H19",
    ADVICE,
    "each instance type is known",
    why="what it has cannot be held against what the archive needs",
    source=_EC2,
)
def known(world: World) -> Problems:
    for name in world.plan.instances:
        if name not in world.instances:
            yield Problem(name, "is in no table of instances", "add it: --instances FILE")


@rule(
    "H20",
    ADVICE,
    "the instance has the CPUs that the archive was made for",
    why="threads and instance groups follow the hardware that the recipe declares",
    source="docs/how-to/targets.md",
)
def cpus(world: World) -> Problems:
    for one in world.plan.archives:
        for instance in world.known:
            if one.vcpus and instance.vcpus < one.vcpus:
                said = f"has {instance.vcpus} virtual CPUs; {one.file} was made for {one.vcpus}"
                yield Problem(instance.name, said, "build it for that instance: targets.….hardware.instance")


@rule(
    "H21",
    ERROR,
    "models fit into the memory of the instance and of its GPU",
    why="they fail to load, or the container is ended",
    source=_EC2,
)
def memory(world: World) -> Problems:
    for instance in world.known:
        for one in world.plan.archives:
            for what, has_bytes in _memories(instance, one):
                share = (one.unpacked_bytes or 0) / has_bytes
                if share > _MARGIN:
                    said = f"{one.file} unpacks to {share:.0%} of {what} of {instance.name}"
                    yield Problem(instance.name, said, "take a larger instance", ERROR if share > 1 else ADVICE)


@rule(
    "H22",
    ERROR,
    "one copy of each component fits an instance",
    why="copies that fit nowhere are never placed",
    source="SageMaker API, InferenceComponentComputeResourceRequirements",
)
def components(world: World) -> Problems:
    for part in world.plan.of("CreateInferenceComponent"):
        needs = part.get("Specification", {}).get("ComputeResourceRequirements", {})
        for instance in world.known:
            has = {
                "NumberOfAcceleratorDevicesRequired": instance.gpus,
                "NumberOfCpuCoresRequired": instance.vcpus,
                "MinMemoryRequiredInMb": instance.memory_gib * 1024,
            }
            for key, most in has.items():
                if isinstance(needs.get(key), int | float) and needs[key] > most:
                    said = f"{key} is {needs[key]:g}; {instance.name} has {most:g}"
                    yield Problem("CreateInferenceComponent", said, "ask for less, or take a larger instance")


def _memories(instance: Instance, one: Facts) -> list[tuple[str, float]]:
    found = [("the memory", instance.memory_gib * (1 << 30))]
    memory_mib = gpus.load_gpus()[str(instance.gpu)].memory_mib if instance.gpus else None
    return [*found, ("the GPU's memory", memory_mib * (1 << 20))] if memory_mib and one.capabilities else found
