"""Endpoints → scaling by load, with Application Auto Scaling.

Metric, dimension and resource belong together; with another one, nothing ever scales. High-resolution metrics are
measured every 10 seconds, so that capacity is added within a minute. They fall to nothing when containers crash, which
would remove capacity: the number of invocations beside them keeps it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.handoff.making import VARIANT
from builder.handoff.names import with_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.handoff.making import Maker
    from builder.handoff.plan import Call
    from builder.recipe.hosting import Autoscaling

VARIANT_INSTANCES: Final = "sagemaker:variant:DesiredInstanceCount"
VARIANT_PROVISIONED: Final = "sagemaker:variant:DesiredProvisionedConcurrency"
COMPONENT_COPIES: Final = "sagemaker:inference-component:DesiredCopyCount"

METRICS: Final = {
    VARIANT_INSTANCES: {
        "concurrency": "SageMakerVariantConcurrentRequestsPerModelHighResolution",
        "invocations": "SageMakerVariantInvocationsPerInstance",
    },
    COMPONENT_COPIES: {
        "concurrency": "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution",
        "invocations": "SageMakerInferenceComponentInvocationsPerCopy",
    },
    VARIANT_PROVISIONED: {"utilization": "SageMakerVariantProvisionedConcurrencyUtilization"},
}
"""Scalable dimension → what a target may be set for, and the metric of it."""


def scaling_calls(make: Maker, calls: Sequence[Call]) -> list[Call]:
    """The calls that let the endpoint or the components among calls scale; none where the recipe does not want it."""
    endpoint = make.settings.endpoint
    if endpoint is None or endpoint.autoscaling is None:
        return []
    if endpoint.components is not None:
        parts = [call.name for call in calls if call.operation == "CreateInferenceComponent"]
        resources, dimension = [f"inference-component/{name}" for name in parts], COMPONENT_COPIES
    else:
        (name,) = (call.name for call in calls if call.operation == "CreateEndpoint")
        resources = [f"endpoint/{name}/variant/{VARIANT}"]
        dimension = VARIANT_PROVISIONED if endpoint.serverless else VARIANT_INSTANCES
    return [call for one in resources for call in _of_resource(make, endpoint.autoscaling, one, dimension)]


def _of_resource(make: Maker, wanted: Autoscaling, resource: str, dimension: str) -> list[Call]:
    place = {"ServiceNamespace": "sagemaker", "ResourceId": resource, "ScalableDimension": dimension}
    bounds = {"MinCapacity": wanted.min, "MaxCapacity": wanted.max}
    targets = {
        "concurrency": wanted.concurrency,
        "invocations": wanted.invocations_per_minute,
        "utilization": wanted.utilization,
    }
    register = make.call("RegisterScalableTarget", {**place, **bounds})
    return [
        register,
        *(
            _policy(make, wanted, place, f"{make.name}-{what}", metric, target)
            for what, metric in METRICS[dimension].items()
            if (target := targets[what]) is not None
        ),
    ]


def _policy(make: Maker, wanted: Autoscaling, place: dict[str, str], stem: str, metric: str, target: float) -> Call:
    tracking = {
        "TargetValue": target,
        "PredefinedMetricSpecification": {"PredefinedMetricType": metric},
        "ScaleInCooldown": wanted.scale_in_cooldown_seconds,
        "ScaleOutCooldown": wanted.scale_out_cooldown_seconds,
    }
    parameters = {
        **place,
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": tracking,
    }
    # A resource has one policy for a metric: with another target it is the same policy, changed.
    return make.call("PutScalingPolicy", parameters, name=with_digest(stem, [place, metric]))
