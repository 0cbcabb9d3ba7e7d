from __future__ import annotations

import copy
import re
import sys

import pytest

from builder.errors import MachineError
from builder.tools import botocore_shapes
from builder.tools.botocore_shapes import check

ROLE = "arn:aws:iam::123456789012:role/sagemaker"
CONFIG = {
    "EndpointConfigName": "minilm-1a2b",
    "ProductionVariants": [
        {
            "VariantName": "all",
            "ModelName": "minilm",
            "InstanceType": "ml.g5.xlarge",
            "InitialInstanceCount": 1,
            "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
        }
    ],
}
MODEL = {"ModelName": "minilm", "ExecutionRoleArn": ROLE, "PrimaryContainer": {"Image": "x", "Environment": {"A": "b"}}}


def changed(base: dict, path: str, value: object) -> dict:
    made = copy.deepcopy(base)
    *above, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    inner = made
    for part in above:
        inner = inner[part]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return made


def test_what_the_service_takes_is_left_alone() -> None:
    assert check("sagemaker", "CreateEndpointConfig", CONFIG) == ()
    assert check("sagemaker", "CreateModel", MODEL) == ()
    tagged = {**MODEL, "Tags": [{"Key": "größe: 3/4", "Value": ""}]}
    assert check("sagemaker", "CreateModel", tagged) == ()


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("required", "ProductionVariants.0.VariantName", ...),
        ("unknown", "ProductionVariants.0.Instance", "x"),
        ("type", "ProductionVariants.0.InitialInstanceCount", "1"),
        ("type", "ProductionVariants.0.InitialInstanceCount", True),
        ("type", "ProductionVariants.0.EnableSSMAccess", 1),
        ("type", "ProductionVariants", {}),
        ("enum", "ProductionVariants.0.InstanceType", "ml.g5.tiny"),
        ("enum", "ProductionVariants.0.RoutingConfig.RoutingStrategy", "FOO"),
        ("min", "ProductionVariants", []),
        ("min", "ProductionVariants.0.InitialInstanceCount", 0),
        ("max", "ProductionVariants.0.ServerlessConfig", {"MemorySizeInMB": 2048, "MaxConcurrency": 999}),
        ("max", "EndpointConfigName", "a" * 64),
        ("pattern", "EndpointConfigName", "a_b.c"),
    ],
)
def test_each_kind_of_constraint_is_checked_at_its_place(kind: str, path: str, value: object) -> None:
    found = check("sagemaker", "CreateEndpointConfig", changed(CONFIG, path, value))
    assert kind in {wrong.kind for wrong in found}
    place = re.sub(r"\.(\d+)", r"[\1]", path)
    assert all(wrong.path.startswith(place) for wrong in found)


@pytest.mark.parametrize(
    ("kind", "environment"),
    [("max", {f"K{n}": "" for n in range(101)}), ("max", {"K": "x" * 1025}), ("pattern", {"K-L": ""})],
)
def test_keys_and_values_of_maps_are_checked(kind: str, environment: dict[str, str]) -> None:
    (wrong,) = check("sagemaker", "CreateModel", changed(MODEL, "PrimaryContainer.Environment", environment))
    assert wrong.kind == kind
    assert wrong.path.startswith("PrimaryContainer.Environment")


def test_patterns_of_the_services_can_be_read() -> None:
    unread = set()
    for service in ("sagemaker", "application-autoscaling"):
        model = botocore_shapes.model(service)
        patterns = {name: model.shape_for(name).metadata.get("pattern") for name in model.shape_names}
        unread |= {name for name, pattern in patterns.items() if pattern and not botocore_shapes._compiled(pattern)}
    assert unread == {"CustomerMetadataKey", "CustomerMetadataValue"}  # which repeat the end of a line


def test_enums_are_those_of_the_model() -> None:
    assert "LEAST_OUTSTANDING_REQUESTS" in botocore_shapes.enum("sagemaker", "RoutingStrategy")


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.loaders", None)
    with pytest.raises(MachineError, match="is not installed: requests cannot be checked") as refused:
        botocore_shapes.model.__wrapped__("sagemaker")
    assert "tritonsmith[handoff]" in refused.value.mend
