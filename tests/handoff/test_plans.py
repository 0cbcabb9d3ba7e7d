"""Each kind of hosting: the calls that it takes, held against the API's shapes, all rules, and cfn-lint."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from builder.errors import UserError
from builder.handoff import check, cloudformation
from builder.handoff.endpoints import ami_of
from builder.handoff.gather import gather
from builder.handoff.rule import ERROR
from builder.handoff.sizing import memory_mb, timeout_seconds
from tests.handoff.shipping import ROLE, plan_of, settings, ship

if TYPE_CHECKING:
    from pathlib import Path

    from builder.handoff.plan import Plan

MODEL, CONFIG, ENDPOINT = "CreateModel", "CreateEndpointConfig", "CreateEndpoint"
COMPONENT, REGISTER, POLICY = "CreateInferenceComponent", "RegisterScalableTarget", "PutScalingPolicy"
C5 = {"instance": "ml.c5.xlarge"}
SCALING = {"min": 1, "max": 4, "concurrency": 5.0, "invocations_per_minute": 600.0}
TESTED = {
    "instances": ["ml.c5.xlarge", "ml.c5.2xlarge"],
    "payload": "s3://models/payload.tar.gz",
    "phases": [{"users": 1, "spawn_rate": 1, "duration_seconds": 120}, {"users": 3, "duration_seconds": 240}],
    "max_invocations_per_minute": 30_000,
    "latency": {"percentile": "P99", "milliseconds": 50},
}
ONE, TWO = ("tiny",), ("tiny", "other")
KINDS: dict[str, tuple[tuple[str, ...], str, dict[str, Any], list[str]]] = {
    "real-time": (ONE, "triton", {"endpoint": {**C5, "autoscaling": SCALING}},
                  [MODEL, CONFIG, ENDPOINT, REGISTER, POLICY, POLICY]),
    "multi-model": (TWO, "sagemaker-mme", {"name": "many", "endpoint": C5, "tags": {"team": "search"}},
                    [MODEL, CONFIG, ENDPOINT]),
    "prefix": (ONE, "s3-prefix", {"endpoint": C5}, [MODEL, CONFIG, ENDPOINT]),
    "serial": (TWO, "sagemaker", {"name": "line", "inference_execution_mode": "Serial", "endpoint": C5},
               [MODEL, CONFIG, ENDPOINT]),
    "direct": (TWO, "sagemaker", {"name": "each", "inference_execution_mode": "Direct", "endpoint": C5},
               [MODEL, CONFIG, ENDPOINT]),
    "serverless": (ONE, "sagemaker", {"endpoint": {
        "serverless": {"memory_mb": 2048, "max_concurrency": 8, "provisioned_concurrency": 2},
        "autoscaling": {"min": 1, "max": 8, "utilization": 0.7}}}, [MODEL, CONFIG, ENDPOINT, REGISTER, POLICY]),
    "asynchronous": (ONE, "sagemaker", {"endpoint": {**C5, "async_inference": {
        "output": "s3://models/answers", "failure": "s3://models/failures", "max_concurrent_invocations": 4,
        "success_topic": "arn:aws:sns:eu-central-1:123456789012:done"}}}, [MODEL, CONFIG, ENDPOINT]),
    "components": (TWO, "sagemaker", {"name": "parts", "endpoint": {
        **C5, "components": {"copies": 2, "cpus": 1.0}, "managed_instance_scaling": {"min": 1, "max": 3},
        "autoscaling": SCALING}},
        [MODEL, MODEL, CONFIG, ENDPOINT, COMPONENT, COMPONENT, *([REGISTER, POLICY, POLICY] * 2)]),
    "jobs": (ONE, "sagemaker", {
        "transform": {"instance": "ml.c5.xlarge", "input": "s3://models/in/", "output": "s3://models/out/"},
        "recommendations": TESTED}, [MODEL, "CreateTransformJob", "CreateInferenceRecommendationsJob"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Plan]:
    """The plan of each kind."""
    made = {}
    for kind, (names, form, section, _) in KINDS.items():
        folder = tmp_path_factory.mktemp(kind)
        made[kind] = plan_of(settings(section), gather([ship(folder, name, kind=form) for name in names]))
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_the_calls_of_each_kind_break_no_rule(plans: dict[str, Plan], kind: str) -> None:
    plan = plans[kind]
    assert [call.operation for call in plan.calls] == KINDS[kind][3]
    assert [one.text for one in check(plan) if one.severity == ERROR] == []


def test_containers_say_where_their_archives_lie_and_what_is_served(plans: dict[str, Plan]) -> None:
    (many,) = plans["multi-model"].containers
    keys = {upload.key for upload in plans["multi-model"].uploads}
    assert (many["Mode"], many["MultiModelConfig"]) == ("MultiModel", {"ModelCacheSetting": "Enabled"})
    assert many["ModelDataUrl"] == "s3://models/tritonsmith/many/"
    assert all(key.startswith("tritonsmith/many/") for key in keys)
    assert (many["Environment"]["SAGEMAKER_TRITON_PING_MODE"], len(keys)) == ("live", 2)
    (prefix,) = plans["prefix"].containers
    source = prefix["ModelDataSource"]["S3DataSource"]
    assert (source["S3DataType"], source["CompressionType"], source["S3Uri"][-1]) == ("S3Prefix", "None", "/")
    for kind, mode in (("serial", "Serial"), ("direct", "Direct")):
        (model,) = plans[kind].of(MODEL)
        assert model["InferenceExecutionConfig"] == {"Mode": mode}
        assert [one["ContainerHostname"] for one in model["Containers"]] == ["tiny", "other"]


def test_scaling_has_the_metrics_of_what_it_scales(plans: dict[str, Plan]) -> None:
    def metrics(kind: str) -> list[str]:
        tracking = [one["TargetTrackingScalingPolicyConfiguration"] for one in plans[kind].of(POLICY)]
        return [one["PredefinedMetricSpecification"]["PredefinedMetricType"] for one in tracking]

    assert metrics("real-time") == [
        "SageMakerVariantConcurrentRequestsPerModelHighResolution",
        "SageMakerVariantInvocationsPerInstance",
    ]
    assert metrics("components")[:2] == [
        "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution",
        "SageMakerInferenceComponentInvocationsPerCopy",
    ]
    assert metrics("serverless") == ["SageMakerVariantProvisionedConcurrencyUtilization"]


def test_variants_hold_what_the_recipe_says(plans: dict[str, Plan]) -> None:
    (parts,) = plans["components"].variants
    assert "ModelName" not in parts
    assert parts["ManagedInstanceScaling"] == {"Status": "ENABLED", "MinInstanceCount": 1, "MaxInstanceCount": 3}
    assert next(plans["components"].of(CONFIG))["ExecutionRoleArn"] == ROLE
    (variant,) = plans["real-time"].variants
    assert variant["RoutingConfig"] == {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}
    assert next(plans["asynchronous"].of(CONFIG))["AsyncInferenceConfig"]["ClientConfig"] == {
        "MaxConcurrentInvocationsPerInstance": 4
    }
    assert all(one["Tags"] == [{"Key": "team", "Value": "search"}] for one in plans["multi-model"].of(CONFIG))
    job = next(plans["jobs"].of("CreateInferenceRecommendationsJob"))
    assert [one["DurationInSeconds"] for one in job["InputConfig"]["TrafficPattern"]["Phases"]] == [120, 240]


def test_raw_fields_are_merged_last(tmp_path: Path) -> None:
    raw = {CONFIG: {"ProductionVariants": [{"EnableSSMAccess": True}], "KmsKeyId": "key"}, MODEL: {"ModelName": "mine"}}
    plan = plan_of(settings({"endpoint": C5, "requests": raw}), gather([ship(tmp_path)]))
    (config,) = plan.of(CONFIG)
    (variant,) = plan.variants
    assert (config["KmsKeyId"], variant["EnableSSMAccess"], variant["ModelName"]) == ("key", True, "mine")


def test_what_fits_nowhere_is_refused(tmp_path: Path) -> None:
    one, two = gather([ship(tmp_path), ship(tmp_path, "other", kind="sagemaker-mme")])
    (three,) = gather([ship(tmp_path, "third")])
    with pytest.raises(UserError, match="1 of 2 archives are of the format sagemaker-mme"):
        plan_of(settings({"name": "x"}), [one, two])
    with pytest.raises(UserError, match="nothing says how they are hosted together"):
        plan_of(settings({"name": "x"}), [one, three])
    with pytest.raises(UserError, match=r"set handoff\.sagemaker\.name"):
        plan_of(settings(), [one, three])
    with pytest.raises(UserError, match="is for 2 to 15 archives; there are 1"):
        plan_of(settings({"inference_execution_mode": "Serial"}), [one])


def test_cfn_lint_takes_the_template(plans: dict[str, Plan]) -> None:
    from cfnlint.api import lint

    calls = dict.fromkeys((call.operation, call.name) for plan in plans.values() for call in plan.calls)
    found = {(call.operation, call.name): call for plan in plans.values() for call in plan.calls}
    whole = replace(plans["real-time"], calls=tuple(found[key] for key in calls))
    template = json.dumps(cloudformation.template(whole))
    assert [str(one) for one in lint(template)] == []
    broken = template.replace('"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"', '"RoutingStrategy": "FOO"')
    assert "E3030" in {one.rule.id for one in lint(broken)}


@pytest.mark.parametrize(
    ("release", "ami"),
    [
        ("24.09", "al2-ami-sagemaker-inference-gpu-3-1"),
        ("25.09", "al2023-ami-sagemaker-inference-gpu-4-1"),
        ("19.01", None),
    ],
)
def test_gpus_get_the_machine_image_whose_driver_runs_the_releases_cuda(
    tmp_path: Path, release: str, ami: str | None
) -> None:
    (one,) = gather([ship(tmp_path)])
    image = f"763104351884.dkr.ecr.eu-central-1.amazonaws.com/sagemaker-tritonserver:{release}-py3"
    assert ami_of(image, [one.facts]) == ami


def test_large_archives_have_more_time_and_memory() -> None:
    assert (timeout_seconds(100 << 20), timeout_seconds(10_000_000_000)) == (None, 460)
    assert timeout_seconds(1 << 50) == 3600
    assert (memory_mb(0), memory_mb(1 << 30)) == (1024, 3072)
