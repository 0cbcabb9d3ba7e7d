"""What calls make in AWS: how each is found, awaited and removed."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from builder.errors import UserError
from builder.tools.aws import AwsError, answered

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.handoff.plan import Call
    from builder.tools.aws import Aws

log = logging.getLogger(__name__)

POLL_SECONDS = 15.0
LONGEST_SECONDS: Final = 3600.0
_READY: Final = "InService"
_IN_PROGRESS: Final = ("Creating", "Updating")
_OVER: Final = ("Failed", "OutOfService", "RollingBack")


@dataclass(frozen=True, slots=True)
class Kind:
    """How boto3 calls what belongs to an operation.

    Args:
        create: the method that sends the call.
        describe: the method that finds what it makes.
        key: the parameter that names it.
        remove: the method that removes it, or stops it.
        status: the key of its state in what ``describe`` answers; empty where it has none to wait for.
    """

    create: str
    describe: str
    key: str
    remove: str
    status: str = ""


KINDS: Final = {
    "CreateModel": Kind("create_model", "describe_model", "ModelName", "delete_model"),
    "CreateEndpointConfig": Kind(
        "create_endpoint_config", "describe_endpoint_config", "EndpointConfigName", "delete_endpoint_config"
    ),
    "CreateEndpoint": Kind("create_endpoint", "describe_endpoint", "EndpointName", "delete_endpoint", "EndpointStatus"),
    "CreateInferenceComponent": Kind(
        "create_inference_component",
        "describe_inference_component",
        "InferenceComponentName",
        "delete_inference_component",
        "InferenceComponentStatus",
    ),
    "CreateTransformJob": Kind(
        "create_transform_job", "describe_transform_job", "TransformJobName", "stop_transform_job"
    ),
    "CreateInferenceRecommendationsJob": Kind(
        "create_inference_recommendations_job",
        "describe_inference_recommendations_job",
        "JobName",
        "stop_inference_recommendations_job",
    ),
}


_CHANGED: Final = {
    "RegisterScalableTarget": ("MinCapacity", "MaxCapacity"),
    "PutScalingPolicy": ("TargetTrackingScalingPolicyConfiguration",),
}
"""Calls that change what is there, and the parameters that they change."""


def exists(aws: Aws, call: Call) -> bool:
    """Whether what a call would make is there, and is the same: names carry digests, but for scaling.

    Raises:
        AwsError: AWS does not answer.
        UserError: there is an endpoint of that name, with another configuration.
    """
    if call.operation in _CHANGED:
        former = _former(aws, call)
        return former is not None and all(_holds(former[key], call.parameters[key]) for key in _CHANGED[call.operation])
    found = _described(aws, call)
    if found is None:
        return False
    wanted = call.parameters.get("EndpointConfigName")
    if call.operation == "CreateEndpoint" and found.get("EndpointConfigName") != wanted:
        raise UserError(
            f"the endpoint {call.name} is there, with the configuration {found.get('EndpointConfigName')}",
            mend="leave handoff.sagemaker.endpoint.name out, or update it yourself: "
            f"aws sagemaker update-endpoint --endpoint-name {call.name} --endpoint-config-name {wanted}",
        )
    return True


def send(aws: Aws, call: Call) -> None:
    """Sends a call.

    Raises:
        AwsError: AWS refused it.
    """
    kind = KINDS.get(call.operation)
    method = kind.create if kind else _snake(call.operation)
    with answered(aws, f"{call.operation} {call.name}"):
        getattr(aws.client(call.service), method)(**call.parameters)


def wait(aws: Aws, call: Call) -> None:
    """Waits until what a call made serves; returns at once where there is nothing to wait for.

    Raises:
        AwsError: it failed, with the reason that AWS gives; or it takes over an hour.
    """
    kind = KINDS.get(call.operation)
    if kind is None or not kind.status:
        return
    began = time.monotonic()
    while True:
        found = _described(aws, call) or {}
        state = str(found.get(kind.status, "gone"))
        if state == _READY:
            return
        if state in _OVER or state == "gone":
            reason = found.get("FailureReason", "no reason given")
            raise AwsError(
                f"{call.operation} {call.name}: is {state}: {reason}",
                mend=f"read its log in CloudWatch, /aws/sagemaker/Endpoints/{call.name}; one that is left from before "
                "has to be removed first",
            )
        if time.monotonic() - began > LONGEST_SECONDS:
            raise AwsError(f"{call.operation} {call.name}: still {state} after {LONGEST_SECONDS:.0f} s")
        log.info("%s is %s, %.0f s so far", call.name, state, time.monotonic() - began)
        time.sleep(POLL_SECONDS)


def undoing(aws: Aws, call: Call) -> Callable[[], None]:
    """What undoes a call, asked before it is sent: scaling that it changes is set back, all else is removed.

    Raises:
        AwsError: AWS does not answer.
    """
    former = _former(aws, call) if call.operation in _CHANGED else None
    if former is None:
        return partial(remove, aws, call)
    back = {key: former[key] for key in _CHANGED[call.operation]}
    return partial(send, aws, replace(call, parameters={**call.parameters, **back}))


def remove(aws: Aws, call: Call) -> None:
    """Removes what a call made; a job is stopped. Returns when an endpoint or a component is gone.

    Raises:
        AwsError: AWS refused.
    """
    try:
        _remove(aws, call)
    except AwsError:
        if not _in_progress(aws, call):
            raise
        log.info("%s is being made: it can be removed when that is over", call.name)
        _until(call, lambda: not _in_progress(aws, call))
        _remove(aws, call)
    if call.operation in KINDS and KINDS[call.operation].status:
        _until(call, lambda: _described(aws, call) is None)


def _remove(aws: Aws, call: Call) -> None:
    given = call.parameters
    where = {key: given[key] for key in ("ServiceNamespace", "ResourceId", "ScalableDimension") if key in given}
    client = aws.client(call.service)
    with answered(aws, f"removing {call.name}"):
        if call.operation == "RegisterScalableTarget":
            client.deregister_scalable_target(**where)
        elif call.operation == "PutScalingPolicy":
            client.delete_scaling_policy(PolicyName=call.name, **where)
        else:
            kind = KINDS[call.operation]
            getattr(client, kind.remove)(**{kind.key: call.name})


def _in_progress(aws: Aws, call: Call) -> bool:
    kind = KINDS.get(call.operation)
    found = _described(aws, call) if kind and kind.status else None
    return found is not None and kind is not None and found.get(kind.status) in _IN_PROGRESS


def _until(call: Call, over: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not over():
        if time.monotonic() - began > LONGEST_SECONDS:
            raise AwsError(f"{call.name}: is still there after {LONGEST_SECONDS:.0f} s", mend="remove it yourself")
        time.sleep(POLL_SECONDS)


def _described(aws: Aws, call: Call) -> dict[str, Any] | None:
    kind = KINDS[call.operation]
    try:
        with answered(aws, f"{call.operation} {call.name}"):
            found: dict[str, Any] = getattr(aws.client(call.service), kind.describe)(**{kind.key: call.name})
            return found
    except AwsError as error:
        # SageMaker has no code of its own for what is not there: "Could not find model …".
        if error.code in {"ResourceNotFound", "ResourceNotFoundException"} or "could not find" in str(error).lower():
            return None
        raise


def _former(aws: Aws, call: Call) -> dict[str, Any] | None:
    """What a call to Application Auto Scaling would change; None where there is nothing yet."""
    given, client = call.parameters, aws.client(call.service)
    place = {"ServiceNamespace": given["ServiceNamespace"], "ScalableDimension": given["ScalableDimension"]}
    resource = given["ResourceId"]
    with answered(aws, f"{call.operation} {call.name}"):
        if call.operation == "RegisterScalableTarget":
            found = client.describe_scalable_targets(ResourceIds=[resource], **place)["ScalableTargets"]
        else:
            named = {"PolicyNames": [call.name], "ResourceId": resource}
            policies = client.describe_scaling_policies(**named, **place)["ScalingPolicies"]
            found = [one for one in policies if one["PolicyName"] == call.name]  # moto gives all of the resource
    return dict(found[0]) if found else None


def _holds(found: Any, wanted: Any) -> bool:  # noqa: ANN401 - JSON data
    """Whether what is there has all that is wanted; a service adds its defaults."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_holds(found.get(key), value) for key, value in wanted.items())
    return bool(found == wanted)


def _snake(operation: str) -> str:
    """The method that boto3 has for an operation: ``put_scaling_policy``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()
