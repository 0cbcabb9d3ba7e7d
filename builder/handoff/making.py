"""How calls are made: raw fields merged, tags added, and named by what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder.handoff.names import slug, with_digest
from builder.handoff.plan import SAGEMAKER, SCALING, Call

if TYPE_CHECKING:
    from builder.artifacts import Json
    from builder.recipe.handoff import SageMaker

VARIANT: Final = "all"
"""The name of the only production variant."""

_NAMED: Final = {
    "CreateModel": "ModelName",
    "CreateEndpointConfig": "EndpointConfigName",
    "CreateEndpoint": "EndpointName",
    "CreateInferenceComponent": "InferenceComponentName",
    "CreateTransformJob": "TransformJobName",
    "CreateInferenceRecommendationsJob": "JobName",
    "PutScalingPolicy": "PolicyName",
}
_OF_SCALING: Final = ("RegisterScalableTarget", "PutScalingPolicy")


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes the calls of one hand-off.

    Args:
        settings: the section of the recipe.
        name: what names begin with.
    """

    settings: SageMaker
    name: str

    def call(self, operation: str, parameters: dict[str, Any], *, stem: str = "", name: str | None = None) -> Call:
        """A call.

        Args:
            operation: of the API.
            parameters: without the name and the tags; None is left out.
            stem: what its name begins with; empty: that of the hand-off.
            name: its whole name, where it has one that tells nothing of its content.
        """
        raw = {str(one): fields for one, fields in self.settings.requests.items()}
        service = SCALING if operation in _OF_SCALING else SAGEMAKER
        made = merged(without_none(parameters), raw.get(operation, {}))
        if self.settings.tags and service == SAGEMAKER and "Tags" not in made:
            made["Tags"] = [{"Key": key, "Value": value} for key, value in sorted(self.settings.tags.items())]
        key = _NAMED.get(operation)
        if key and key not in made:
            made = {key: slug(name) if name else with_digest(stem or self.name, made), **made}
        return Call(service, operation, made)


def without_none(value: Json) -> Json:
    """JSON data without keys whose value is None."""
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    return [without_none(item) for item in value] if isinstance(value, list | tuple) else value


def merged(base: Json, over: Json) -> Json:
    """One value written over another: mappings by key, lists of mappings by place; all else is replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{key: merged(base.get(key), item) for key, item in over.items()}}
    if isinstance(base, list) and isinstance(over, list) and all(isinstance(item, dict) for item in (*base, *over)):
        return [merged(*pair) for pair in zip(base, over, strict=False)] + base[len(over) :] + over[len(base) :]
    return over
