"""Archives → containers → the models that SageMaker makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.errors import UserError
from builder.handoff.names import distinct
from builder.handoff.plan import Facts, Upload
from builder.tools import sagemaker_environment as environments
from builder.tools import sagemaker_images

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.handoff.making import Maker
    from builder.handoff.plan import Call
    from builder.recipe.handoff import SageMaker

_MOST_CONTAINERS: Final = 15


def image_of(settings: SageMaker, archives: Sequence[Facts]) -> str:
    """The container's image.

    Raises:
        UserError: AWS has none of the release; or archives are for different ones.
    """
    releases = sorted({one.triton for one in archives})
    if settings.image:
        return settings.image
    if len(releases) > 1:
        raise UserError(
            f"archives are for different releases of Triton: {', '.join(releases)}",
            mend="build them for one, or name the image: handoff.sagemaker.image",
        )
    return sagemaker_images.image(settings.region, releases[0])


def uploads_of(settings: SageMaker, name: str, archives: Sequence[Facts]) -> list[Upload]:
    """Where archives go. Their names carry the digest of their trees, so no key is ever used for something else.

    Args:
        settings: the section of the recipe.
        name: that of the hand-off: the models of a multi-model endpoint lie together below it.
        archives: what is uploaded.
    """
    made = []
    for one in archives:
        parts = (settings.prefix, name if one.is_multi else "", one.file)
        key = "/".join(part for part in parts if part)
        size = one.unpacked_bytes if one.is_folder else one.packed_bytes
        made.append(Upload(one.file, settings.bucket, f"{key}/" if one.is_folder else key, one.sha256, size))
    return made


def models_of(make: Maker, archives: Sequence[Facts], uploads: Sequence[Upload], image: str) -> list[Call]:
    """The calls that make models: one of all archives, or one of each where each is a component.

    Raises:
        UserError: nothing says what several archives are to one another.
    """
    settings = make.settings
    multi = [one for one in archives if one.is_multi]
    if multi:
        if len(multi) < len(archives):
            raise UserError(
                f"{len(multi)} of {len(archives)} archives are of the format {multi[0].format}",
                mend="hand them off apart: others are for single-model endpoints",
            )
        return [_model(make, {"PrimaryContainer": _multi_container(settings, archives, uploads, image)})]
    containers = [_container(settings, *pair, image) for pair in zip(archives, uploads, strict=True)]
    if settings.inference_execution_mode is not None:
        return [_model(make, _together(settings, archives, containers))]
    if len(archives) > 1 and (settings.endpoint is None or settings.endpoint.components is None):
        raise UserError(
            f"{len(archives)} archives of single-model endpoints, and nothing says how they are hosted together",
            mend="set handoff.sagemaker.inference_execution_mode (containers of one model) or …endpoint.components; or "
            "build the format sagemaker-mme",
        )
    single = len(archives) == 1
    return [
        _model(make, {"PrimaryContainer": container}, "" if single else f"{make.name}-{one.name}")
        for one, container in zip(archives, containers, strict=True)
    ]


def _model(make: Maker, parameters: dict[str, Any], stem: str = "") -> Call:
    settings = make.settings
    isolated = {"EnableNetworkIsolation": True} if settings.network_isolation else {}
    return make.call("CreateModel", {"ExecutionRoleArn": settings.role_arn, **parameters, **isolated}, stem=stem)


def _together(settings: SageMaker, archives: Sequence[Facts], containers: list[dict[str, Any]]) -> dict[str, Any]:
    if not 2 <= len(archives) <= _MOST_CONTAINERS:
        raise UserError(
            f"inference_execution_mode {settings.inference_execution_mode} is for 2 to {_MOST_CONTAINERS} archives; "
            f"there are {len(archives)}",
            mend="leave it out, or name more archives",
        )
    hosts = distinct(one.name for one in archives)
    return {
        "Containers": [
            {"ContainerHostname": hosts[one.name], **container}
            for one, container in zip(archives, containers, strict=True)
        ],
        "InferenceExecutionConfig": {"Mode": settings.inference_execution_mode},
    }


def _container(settings: SageMaker, one: Facts, upload: Upload, image: str) -> dict[str, Any]:
    source = {"S3Uri": upload.uri, "S3DataType": "S3Prefix", "CompressionType": "None"}
    wanted = environments.Wanted(
        default_model=one.name,
        load_models=one.load_models,
        response_cache=one.response_cache,
        rate_limiter=one.rate_limiter,
        inference_type=settings.inference_type,
        arguments=settings.additional_args,
        more=settings.environment,
    )
    data = {"ModelDataSource": {"S3DataSource": source}} if one.is_folder else {"ModelDataUrl": upload.uri}
    return {"Image": image, "Mode": "SingleModel", **data, "Environment": environments.plan(wanted)}


def _multi_container(
    settings: SageMaker, archives: Sequence[Facts], uploads: Sequence[Upload], image: str
) -> dict[str, Any]:
    wanted = environments.Wanted(
        response_cache=any(one.response_cache for one in archives),
        rate_limiter=any(one.rate_limiter for one in archives),
        arguments=settings.additional_args,
        more=settings.environment,
    )
    return {
        "Image": image,
        "Mode": "MultiModel",
        "ModelDataUrl": uploads[0].uri.removesuffix(uploads[0].file),
        "MultiModelConfig": {"ModelCacheSetting": settings.model_cache},
        "Environment": environments.plan(wanted),
    }
