"""Models → an endpoint: its configuration, itself, and components on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from builder.errors import UserError
from builder.handoff.making import VARIANT
from builder.handoff.sizing import memory_mb, timeout_seconds
from builder.tools import gpus, releases, sagemaker_images

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.handoff.making import Maker
    from builder.handoff.plan import Call, Facts
    from builder.recipe.hosting import Components, Endpoint


def endpoint_calls(make: Maker, archives: Sequence[Facts], models: Sequence[Call], image: str) -> list[Call]:
    """The calls that make an endpoint of models; none where the recipe wants no endpoint.

    Raises:
        UserError: no instance type is known.
    """
    endpoint = make.settings.endpoint
    if endpoint is None:
        return []
    variant = _variant(endpoint, archives, models, image)
    role = {"ExecutionRoleArn": make.settings.role_arn} if endpoint.components else {}
    config = make.call("CreateEndpointConfig", {"ProductionVariants": [variant], **_async(endpoint), **role})
    made = make.call("CreateEndpoint", {"EndpointConfigName": config.name}, name=endpoint.name or config.name)
    if endpoint.components is None:
        return [config, made]
    gpu = _has_gpu(str(variant.get("InstanceType")))
    parts = [
        _component(make, one, model, made.name, endpoint.components, gpu=gpu)
        for one, model in zip(archives, models, strict=True)
    ]
    return [config, made, *parts]


def instance_of(stated: str | None, archives: Sequence[Facts], place: str) -> str:
    """The instance type: what the recipe says, or that of the target's hardware.

    Raises:
        UserError: neither says one.
    """
    found = stated or next((one.instance for one in archives if one.instance), None)
    if found is None:
        raise UserError(
            f"handoff.sagemaker.{place}: no instance type: the target's hardware names none",
            mend=f"set handoff.sagemaker.{place}=ml.…",
        )
    return found


def ami_of(image: str, archives: Sequence[Facts]) -> str | None:
    """The machine image whose driver runs the CUDA of the container; None where its release is not known."""
    release = sagemaker_images.release_of(image) or archives[0].triton
    if release not in releases.names():
        return None
    able = releases.inference_amis(releases.release(release))
    usual = [name for name in able if "gpu-3" in name]  # the newest driver that every 12.x release is known to run on
    chosen = usual or list(able)
    return chosen[-1] if chosen else None


def _variant(endpoint: Endpoint, archives: Sequence[Facts], models: Sequence[Call], image: str) -> dict[str, Any]:
    model = {} if endpoint.components else {"ModelName": models[0].name}
    if endpoint.serverless is not None:
        facts = endpoint.serverless
        serverless = {
            "MemorySizeInMB": facts.memory_mb,
            "MaxConcurrency": facts.max_concurrency,
            "ProvisionedConcurrency": facts.provisioned_concurrency,
        }
        return {"VariantName": VARIANT, **model, "ServerlessConfig": serverless}
    instance = instance_of(endpoint.instance, archives, "endpoint.instance")
    managed = endpoint.managed_instance_scaling
    scaling = (
        {"Status": "ENABLED", "MinInstanceCount": managed.min, "MaxInstanceCount": managed.max} if managed else None
    )
    return {
        "VariantName": VARIANT,
        **model,
        "InstanceType": instance,
        "InitialInstanceCount": endpoint.count,
        **({} if endpoint.components else {"InitialVariantWeight": 1.0}),
        "RoutingConfig": {"RoutingStrategy": endpoint.routing_strategy},
        "ManagedInstanceScaling": scaling,
        "InferenceAmiVersion": endpoint.inference_ami_version
        or (ami_of(image, archives) if _has_gpu(instance) else None),
        "VolumeSizeInGB": endpoint.volume_gb,
        **({} if endpoint.components else _timeouts(endpoint, archives)),
    }


def _timeouts(endpoint: Endpoint, archives: Sequence[Facts]) -> dict[str, int | None]:
    wanted = timeout_seconds(max(one.unpacked_bytes or 0 for one in archives))
    return {
        "ModelDataDownloadTimeoutInSeconds": endpoint.download_timeout_seconds or wanted,
        "ContainerStartupHealthCheckTimeoutInSeconds": endpoint.startup_timeout_seconds or wanted,
    }


def _async(endpoint: Endpoint) -> dict[str, Any]:
    wanted = endpoint.async_inference
    if wanted is None:
        return {}
    topics = {"SuccessTopic": wanted.success_topic, "ErrorTopic": wanted.error_topic}
    output = {"S3OutputPath": wanted.output, "S3FailurePath": wanted.failure}
    notify = {"NotificationConfig": topics} if any(topics.values()) else {}
    limit = wanted.max_concurrent_invocations
    client = {"ClientConfig": {"MaxConcurrentInvocationsPerInstance": limit}} if limit else {}
    return {"AsyncInferenceConfig": {"OutputConfig": {**output, **notify}, **client}}


def _component(make: Maker, one: Facts, model: Call, endpoint: str, wanted: Components, *, gpu: bool) -> Call:
    needs = {
        "NumberOfAcceleratorDevicesRequired": wanted.accelerators or (1.0 if gpu else None),
        "NumberOfCpuCoresRequired": wanted.cpus,
        "MinMemoryRequiredInMb": wanted.min_memory_mb or memory_mb(one.unpacked_bytes or 0),
        "MaxMemoryRequiredInMb": wanted.max_memory_mb,
    }
    times = _timeouts(make.settings.endpoint, [one]) if make.settings.endpoint else {}
    specification = {
        "ModelName": model.name,
        "StartupParameters": times if any(times.values()) else None,
        "ComputeResourceRequirements": needs,
    }
    parameters = {
        "EndpointName": endpoint,
        "VariantName": VARIANT,
        "Specification": specification,
        "RuntimeConfig": {"CopyCount": wanted.copies},
    }
    return make.call("CreateInferenceComponent", parameters, stem=one.name)


def _has_gpu(instance: str) -> bool:
    known = gpus.load_instances().get(instance)
    return known is not None and known.gpus > 0
