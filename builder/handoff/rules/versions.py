"""Whether image, driver, TensorRT and GPU go together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.errors import UserError
from builder.handoff.rule import ADVICE, ERROR, Problem, rule
from builder.tools import releases, sagemaker_images
from builder.tools.compatibility import loads

if TYPE_CHECKING:
    from builder.handoff.rule import Problems, World
    from builder.tools.releases import Release

_MATRIX: Final = "server docs/introduction/compatibility.md; botocore, InferenceAmiVersion"
_PLANS: Final = "docs.nvidia.com/deeplearning/tensorrt, version compatibility"


def _release(world: World) -> Release | None:
    name = sagemaker_images.release_of(world.plan.image)
    return releases.release(name) if name in releases.names() and name is not None else None


@rule(
    "V1",
    ERROR,
    "the image is one that AWS has, in the endpoint's region",
    why="the image cannot be pulled",
    source="aws/deep-learning-containers; sagemaker-python-sdk image_uri_config",
)
def image(world: World) -> Problems:
    plan = world.plan
    if not sagemaker_images.is_aws(plan.image):
        if f".{plan.region}." not in plan.image:
            yield Problem(plan.image, f"is not in {plan.region}", "name an image of that region's ECR")
        return
    try:
        wanted = sagemaker_images.image(plan.region, sagemaker_images.release_of(plan.image) or "")
    except UserError as error:
        yield Problem(plan.image, error.message, error.mend)
        return
    if plan.image.removesuffix("-cpu") != wanted:
        yield Problem(plan.image, f"is not AWS's image of {plan.region}: {wanted}", "leave handoff.sagemaker.image out")


@rule(
    "V2",
    ERROR,
    "the container has the TensorRT that the plans were made with",
    why="a plan is loaded by the version that made it, but for plans that were made to be version compatible",
    source=_PLANS,
)
def tensorrt(world: World) -> Problems:
    release = _release(world)
    for one in world.plan.archives:
        if one.runtime != "tensorrt" or one.library is None or release is None or release.tensorrt is None:
            continue
        if not loads(release.tensorrt, one.library, version_compatible=one.any_version):
            said = f"was made with TensorRT {one.library}; Triton {release.name} has {release.tensorrt}"
            yield Problem(one.file, said, "build it for that release, or name the image of its own")


@rule(
    "V3",
    ERROR,
    "the driver of the machine image runs the container's CUDA",
    why="the server finds no GPU",
    source=_MATRIX,
)
def driver(world: World) -> Problems:
    release = _release(world)
    if release is None or not world.on_gpus:
        return
    able = releases.inference_amis(release)
    for variant in world.plan.variants:
        ami = variant.get("InferenceAmiVersion")
        if ami is None and able and releases.least_driver(release) != _OLDEST_CUDA_DRIVER:
            said = f"is left out; Triton {release.name} has CUDA {release.cuda}, which the default's driver may not run"
            yield Problem("InferenceAmiVersion", said, f"set it: {', '.join(able)}")
        elif ami is not None and able and ami not in able:
            said = f"is {ami}, whose driver is too old for CUDA {release.cuda} of Triton {release.name}"
            yield Problem("InferenceAmiVersion", said, f"set it: {', '.join(able)}")


_OLDEST_CUDA_DRIVER: Final = 525
"""Of CUDA 12: all machine images of today run it."""


@rule(
    "V10",
    ERROR,
    "the container has the backends that the archive asks for",
    why="the model does not load",
    source="the archive's manifest, repository.host.backends",
)
def backends(world: World) -> Problems:
    for one in world.plan.archives:
        if one.backends and sagemaker_images.is_aws(world.plan.image):
            said = f"needs the backend {', '.join(one.backends)}, which AWS's image has not"
            yield Problem(one.file, said, "name an image of yours that has it: handoff.sagemaker.image")


@rule(
    "V11",
    ADVICE,
    "the container is of the release that the archive was made for",
    why="fields, and what the runtime computes, differ between releases",
    source="docs/how-to/targets.md",
)
def same_release(world: World) -> Problems:
    named = sagemaker_images.release_of(world.plan.image)
    for one in world.plan.archives:
        if named is not None and named != one.triton:
            yield Problem(
                one.file, f"was made for Triton {one.triton}; the image is {named}", "build it for that release"
            )
