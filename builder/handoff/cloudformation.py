"""The plan of a hand-off → a CloudFormation template: the same resources, for those who deploy with stacks.

Properties of these resources have the names and forms of the API's parameters. Jobs are none: left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from builder.artifacts import Json
    from builder.handoff.plan import Call, Plan

_KINDS: Final = {
    "CreateModel": ("Model", "AWS::SageMaker::Model"),
    "CreateEndpointConfig": ("EndpointConfig", "AWS::SageMaker::EndpointConfig"),
    "CreateEndpoint": ("Endpoint", "AWS::SageMaker::Endpoint"),
    "CreateInferenceComponent": ("Component", "AWS::SageMaker::InferenceComponent"),
    "RegisterScalableTarget": ("ScalableTarget", "AWS::ApplicationAutoScaling::ScalableTarget"),
    "PutScalingPolicy": ("ScalingPolicy", "AWS::ApplicationAutoScaling::ScalingPolicy"),
}
_ROLE: Final = "ExecutionRoleArn"


def template(plan: Plan) -> dict[str, Json]:
    """The template, as JSON data. Archives have to be uploaded before the stack is made."""
    resources: dict[str, Any] = {}
    by_name: dict[tuple[str, str], str] = {}  # operation and name → resource
    for call in plan.calls:
        if call.operation not in _KINDS:
            continue
        stem, kind = _KINDS[call.operation]
        place = f"{stem}{1 + sum(one['Type'] == kind for one in resources.values())}"
        before = [by_name[need] for need in _needs(call) if need in by_name]
        by_name[call.operation, call.name] = place
        resources[place] = {
            "Type": kind,
            **({"DependsOn": before if len(before) > 1 else before[0]} if before else {}),
            "Properties": _with_role(call.parameters),
        }
    roles = {model[_ROLE] for model in plan.of("CreateModel") if _ROLE in model}
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"{', '.join(one.name for one in plan.archives)} on Triton, written by tritonsmith",
        "Parameters": {_ROLE: {"Type": "String", "Default": min(roles), "Description": "The role of SageMaker"}},
        "Resources": resources,
    }


def _with_role(parameters: dict[str, Any]) -> dict[str, Any]:
    return {**parameters, **({_ROLE: {"Ref": _ROLE}} if _ROLE in parameters else {})}


def _needs(call: Call) -> list[tuple[str, str]]:
    """What has to be there first, by operation and name."""
    given = call.parameters
    if call.operation == "CreateEndpointConfig":
        names = [one.get("ModelName") for one in given["ProductionVariants"]]
        return [("CreateModel", str(name)) for name in names if name]
    if call.operation == "CreateEndpoint":
        return [("CreateEndpointConfig", str(given["EndpointConfigName"]))]
    if call.operation == "CreateInferenceComponent":
        model = given.get("Specification", {}).get("ModelName")
        return [("CreateModel", str(model)), ("CreateEndpoint", str(given["EndpointName"]))]
    if call.operation == "RegisterScalableTarget":
        _, name, *_ = str(given["ResourceId"]).split("/")
        return [("CreateEndpoint", name), ("CreateInferenceComponent", name)]
    if call.operation == "PutScalingPolicy":
        return [("RegisterScalableTarget", str(given["ResourceId"]))]
    return []
