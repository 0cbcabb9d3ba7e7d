"""Models → jobs: batch transform, and the load test of the Inference Recommender."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from builder.handoff.endpoints import instance_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.handoff.making import Maker
    from builder.handoff.plan import Call, Facts
    from builder.recipe.handoff import Recommendations, Transform


def job_calls(make: Maker, archives: Sequence[Facts], models: Sequence[Call]) -> list[Call]:
    """The calls that start jobs with each of the models; none where the recipe wants none.

    Raises:
        UserError: no instance type is known.
    """
    settings = make.settings
    made = []
    for model in models:
        if settings.transform is not None:
            made.append(_transform(make, settings.transform, archives, model))
        if settings.recommendations is not None:
            made.append(_recommendations(make, settings.recommendations, model))
    return made


def _transform(make: Maker, wanted: Transform, archives: Sequence[Facts], model: Call) -> Call:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": wanted.input}}
    parameters = {
        "ModelName": model.name,
        # A file is a request as it stands: lines of it are none.
        "BatchStrategy": "SingleRecord",
        "TransformInput": {"DataSource": source, "ContentType": wanted.content_type, "SplitType": "None"},
        "TransformOutput": {"S3OutputPath": wanted.output, "AssembleWith": "None"},
        "TransformResources": {
            "InstanceType": instance_of(wanted.instance, archives, "transform.instance"),
            "InstanceCount": wanted.count,
        },
        "MaxPayloadInMB": wanted.max_payload_mb,
        "MaxConcurrentTransforms": wanted.max_concurrent,
        "ModelClientConfig": {
            "InvocationsTimeoutInSeconds": wanted.timeout_seconds,
            "InvocationsMaxRetries": wanted.retries,
        },
    }
    return make.call("CreateTransformJob", parameters, stem=f"{make.name}-transform")


def _recommendations(make: Maker, wanted: Recommendations, model: Call) -> Call:
    phases = [
        {"InitialNumberOfUsers": one.users, "SpawnRate": one.spawn_rate, "DurationInSeconds": one.duration_seconds}
        for one in wanted.phases
    ]
    payload = {"SamplePayloadUrl": wanted.payload, "SupportedContentTypes": [wanted.content_type]}
    parameters = {
        "JobType": "Advanced",
        "RoleArn": make.settings.role_arn,
        "InputConfig": {
            "ModelName": model.name,
            "JobDurationInSeconds": wanted.duration_seconds,
            "TrafficPattern": {"TrafficType": "PHASES", "Phases": phases},
            "EndpointConfigurations": [{"InstanceType": name} for name in wanted.instances],
            "ContainerConfig": {
                "Domain": wanted.domain,
                "Task": wanted.task,
                "PayloadConfig": payload,
                "SupportedInstanceTypes": list(wanted.instances),
                "SupportedEndpointType": "RealTime",
            },
        },
        "StoppingConditions": _stop(wanted),
    }
    return make.call("CreateInferenceRecommendationsJob", parameters, stem=f"{make.name}-load-test")


def _stop(wanted: Recommendations) -> dict[str, Any] | None:
    latency = wanted.latency
    found = {
        "MaxInvocations": wanted.max_invocations_per_minute,
        "ModelLatencyThresholds": [{"Percentile": latency.percentile, "ValueInMilliseconds": latency.milliseconds}]
        if latency
        else None,
    }
    return found if any(value is not None for value in found.values()) else None
