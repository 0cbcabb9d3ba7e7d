"""One bad and one good plan for each rule."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from builder.handoff import check
from builder.handoff.making import merged
from builder.handoff.plan import Call, Facts, Plan, Upload
from builder.handoff.release import _CLIENT as CLIENT
from builder.handoff.rule import ERROR, RULES, Folder, Problem
from builder.handoff.rules import all_rules
from builder.handoff.rules.endpoint import request_bytes
from builder.handoff.rules.folder import BINARY

if TYPE_CHECKING:
    from collections.abc import Callable

    Asked = Plan | tuple[Plan, Folder]

DIGEST = "0123456789abcdef" * 4
IMAGE = "763104351884.dkr.ecr.eu-central-1.amazonaws.com/sagemaker-tritonserver:25.09-py3"
CUDA_13 = "al2023-ami-sagemaker-inference-gpu-4-1"
QUIET = {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "m", "SAGEMAKER_TRITON_LOG_VERBOSE": "false"}
LIVE = {"SAGEMAKER_TRITON_PING_MODE": "live", "SAGEMAKER_TRITON_OVERRIDE_PING_MODE": "live"}
TEXT = {"name": "TEXT", "data_type": "TYPE_STRING", "dims": [1]}
FACTS = Facts(
    name="m",
    target="cpu",
    format="sagemaker",
    status="passed",
    file=f"m-cpu-{DIGEST[:16]}.tar.gz",
    tree_digest=DIGEST,
    sha256=DIGEST,
    packed_bytes=80_000_000,
    unpacked_bytes=100_000_000,
    triton="25.09",
    runtime="onnxruntime",
    max_batch_size=8,
    max_length=256,
    inputs=(TEXT,),
    vcpus=4,
)
ENGINE = {"runtime": "tensorrt", "capabilities": ("8.6",), "library": "10.13.3.9"}
KEY = f"triton/m-cpu-{DIGEST[:16]}.tar.gz"
CONTAINER = {"Image": IMAGE, "Mode": "SingleModel", "ModelDataUrl": f"s3://models/{KEY}", "Environment": QUIET}
ROLE = "arn:aws:iam::123456789012:role/sagemaker"
VARIANT = {
    "VariantName": "all",
    "ModelName": "m",
    "InstanceType": "ml.c5.xlarge",
    "InitialInstanceCount": 1,
    "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
}
RESOURCE, DIMENSION = "endpoint/m/variant/all", "sagemaker:variant:DesiredInstanceCount"
PLACE = {"ServiceNamespace": "sagemaker", "ResourceId": RESOURCE, "ScalableDimension": DIMENSION}
CONCURRENCY = "SageMakerVariantConcurrentRequestsPerModelHighResolution"
INVOCATIONS = "SageMakerVariantInvocationsPerInstance"


def plan(
    facts: dict[str, Any] | None = None,
    *,
    environment: dict[str, str] | None = None,
    container: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    variant: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    calls: tuple[Call, ...] = (),
    **more: Any,
) -> Plan:
    """A plan with some things changed; a variant's ``None`` is left out."""
    one = replace(FACTS, **(facts or {}))
    held = {**CONTAINER, **(container or {}), **({"Environment": environment} if environment is not None else {})}
    made = {"ModelName": "m", "ExecutionRoleArn": ROLE, "PrimaryContainer": held, **(model or {})}
    if "Containers" in made:
        del made["PrimaryContainer"]
    varied = {key: value for key, value in merged(VARIANT, variant or {}).items() if value is not None}
    configured = {"EndpointConfigName": "m", "ProductionVariants": [varied], **(config or {})}
    upload = Upload(one.file, "models", KEY, DIGEST, 1)
    whole = Plan(
        "eu-central-1",
        IMAGE,
        (one,),
        (upload,),
        (Call("sagemaker", "CreateModel", made), Call("sagemaker", "CreateEndpointConfig", configured), *calls),
    )
    return replace(whole, **more)


def on(instance: str, **more: Any) -> Plan:
    """An engine for the A10G on an instance."""
    return plan(ENGINE | more, variant={"InstanceType": instance, "InferenceAmiVersion": CUDA_13})


def multi(facts: dict[str, Any] | None = None, environment: dict[str, str] | None = None, **variant: Any) -> Plan:
    given = {k: v for k, v in QUIET.items() if "DEFAULT" not in k} | LIVE if environment is None else environment
    many = {"Mode": "MultiModel", "ModelDataUrl": "s3://models/triton/"}
    return plan({"format": "sagemaker-mme"} | (facts or {}), container=many, environment=given, variant=variant)


def serverless(facts: dict[str, Any] | None = None, **more: Any) -> Plan:
    left_out = dict.fromkeys(("InstanceType", "InitialInstanceCount", "RoutingConfig"))
    small = {"MemorySizeInMB": 2048, "MaxConcurrency": 4}
    return plan(facts, variant={**left_out, "ServerlessConfig": small}, **more)


def arguments(text: str) -> Plan:
    return plan(environment={**QUIET, "SAGEMAKER_TRITON_ADDITIONAL_ARGS": text})


def scaled(*metrics: str, place: dict[str, str] | None = None, registered: bool = True) -> Plan:
    where = {**PLACE, **(place or {})}
    bounds = Call("application-autoscaling", "RegisterScalableTarget", {**where, "MinCapacity": 1, "MaxCapacity": 2})
    tracked = [
        {"TargetValue": 5.0, "PredefinedMetricSpecification": {"PredefinedMetricType": metric}} for metric in metrics
    ]
    policies = [
        Call(
            "application-autoscaling",
            "PutScalingPolicy",
            {
                **where,
                "PolicyName": f"p{index}",
                "PolicyType": "TargetTrackingScaling",
                "TargetTrackingScalingPolicyConfiguration": one,
            },
        )
        for index, one in enumerate(tracked)
    ]
    return plan(calls=(*([bounds] if registered else []), *policies))


def component(**needs: Any) -> Plan:
    spec = {"ModelName": "m", "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 1024, **needs}}
    part = {"InferenceComponentName": "c", "EndpointName": "m", "Specification": spec}
    return plan(
        calls=(Call("sagemaker", "CreateInferenceComponent", {**part, "RuntimeConfig": {"CopyCount": 1}}),),
        variant={"ModelName": None},
    )


def load_test(invocations: int = 30_000, seconds: int = 120, whole: int = 7200) -> Plan:
    phase = {"InitialNumberOfUsers": 1, "SpawnRate": 1, "DurationInSeconds": seconds}
    job = {
        "JobName": "j",
        "JobType": "Advanced",
        "RoleArn": ROLE,
        "InputConfig": {
            "ModelName": "m",
            "JobDurationInSeconds": whole,
            "TrafficPattern": {"TrafficType": "PHASES", "Phases": [phase]},
        },
        "StoppingConditions": {"MaxInvocations": invocations},
    }
    return plan(calls=(Call("sagemaker", "CreateInferenceRecommendationsJob", job),))


def transform(at_once: int) -> Plan:
    source = {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://models/in/"}}}
    job = {
        "TransformJobName": "t",
        "ModelName": "m",
        "TransformInput": source,
        "TransformOutput": {"S3OutputPath": "s3://models/out/"},
        "TransformResources": {"InstanceType": "ml.c5.xlarge", "InstanceCount": 1},
        "MaxPayloadInMB": 25,
        "MaxConcurrentTransforms": at_once,
    }
    return plan(calls=(Call("sagemaker", "CreateTransformJob", job),))


def image(name: str, facts: dict[str, Any] | None = None) -> Plan:
    return plan(facts, image=name)


def upload(key: str, **facts: Any) -> Plan:
    return plan(facts, uploads=(Upload(FACTS.file, "models", key, DIGEST, 1),))


def kept(
    *changes: tuple[str, str], beside: str = ".provenance.json", member: str = "m/1/model.onnx"
) -> tuple[Plan, Folder]:
    """A plan, and a folder whose client is ours with some words changed."""
    client = CLIENT.read_text()
    for old, new in changes:
        assert old in client
        client = client.replace(old, new)
    stem = FACTS.file.removesuffix(".tar.gz")
    return plan(), Folder(client, frozenset({f"{stem}{beside}"}), {FACTS.file: (member,)})


PARSED = "int(content_type.removeprefix(BINARY)) if content_type.startswith(BINARY) else len(body)"
GOOD = plan
PREFIXED = {"format": "s3-prefix"}
GPU_CONTAINERS = {"Containers": [CONTAINER, CONTAINER]}
CASES: list[tuple[str, Callable[[], Asked], Callable[[], Asked]]] = [
    ("A15", lambda: upload("triton/latest.tar.gz"), GOOD),
    ("A16", lambda: plan({"unpacked_bytes": 9_000_000_000}, variant={"VolumeSizeInGB": 9}), GOOD),
    ("A17", lambda: upload(KEY, **PREFIXED), lambda: upload(f"{KEY}/", **PREFIXED)),
    ("A17", lambda: upload(f"a/../{KEY}/", **PREFIXED), lambda: upload(f"{KEY}/", **PREFIXED)),
    ("E9", lambda: multi({"decoupled": True}), multi),
    (
        "E9",
        lambda: plan({"decoupled": True}),
        lambda: plan({"decoupled": True}, environment={**QUIET, "SAGEMAKER_TRITON_INFERENCE_TYPE": "generate"}),
    ),
    ("H1", lambda: plan(environment={**QUIET, "K": "x" * 1025}), GOOD),
    ("H1", lambda: plan(environment={**QUIET, **{f"K{n}": "" for n in range(100)}}), GOOD),
    ("H1", lambda: plan(environment={**QUIET, "K-L": ""}), GOOD),
    ("H2", lambda: plan(environment={**QUIET, "SAGEMAKER_MULTI_MODEL": "True"}), GOOD),
    ("H2", lambda: plan(environment={**QUIET, "SAGEMAKER_MULTI_MODEL": "true"}), GOOD),
    ("H3", lambda: multi(environment={"SAGEMAKER_TRITON_PING_MODE": "live"}), multi),
    ("H4", lambda: plan(environment={"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "m"}), GOOD),
    ("H5", lambda: plan(environment={**QUIET, "SAGEMAKER_TRITON_DISABLE_MODEL_NAMESPACING": "true"}), GOOD),
    ("H6", lambda: plan(environment={}), GOOD),
    ("H7", lambda: arguments("--a='b'"), lambda: arguments("--load-model=b --rate-limit=execution_count")),
    ("H7", lambda: arguments("--load-model=a b"), GOOD),
    ("H7", lambda: arguments("--load-model=*"), GOOD),
    ("H7", lambda: arguments("--model-control-mode=poll"), GOOD),
    ("H8", lambda: plan(environment={**QUIET, "SAGEMAKER_TRITON_INFERENCE_TYPE": "stream"}), GOOD),
    (
        "H8",
        lambda: plan(
            environment={**QUIET, "SAGEMAKER_TRITON_INFERENCE_TYPE": "generate"}, image=IMAGE.replace("25.09", "24.09")
        ),
        lambda: plan(environment={**QUIET, "SAGEMAKER_TRITON_INFERENCE_TYPE": "generate"}),
    ),
    ("H9", lambda: serverless(ENGINE), serverless),
    ("H9", lambda: multi(InstanceType="ml.g5.12xlarge"), lambda: multi(InstanceType="ml.g5.2xlarge")),
    ("H9", lambda: plan(variant={"InstanceType": "ml.g5.xlarge"}, model=GPU_CONTAINERS), GOOD),
    ("H10", lambda: plan(config={"EndpointConfigName": "a_b"}), GOOD),
    ("H11", lambda: plan(variant={"RoutingConfig": {"RoutingStrategy": "FOO"}}), GOOD),
    ("H12", lambda: scaled("SageMakerInferenceComponentInvocationsPerCopy"), lambda: scaled(INVOCATIONS)),
    ("H12", lambda: scaled(INVOCATIONS, registered=False), lambda: scaled(INVOCATIONS)),
    (
        "H12",
        lambda: scaled(INVOCATIONS, place={"ResourceId": "inference-component/m"}),
        lambda: scaled(INVOCATIONS),
    ),
    ("H13", lambda: load_test(invocations=30_001), load_test),
    ("H13", lambda: load_test(seconds=60), load_test),
    ("H13", lambda: load_test(whole=18_001), load_test),
    ("H13", lambda: load_test(seconds=3600, whole=1800), load_test),
    (
        "H14",
        lambda: plan({"unpacked_bytes": 20_000_000_000}),
        lambda: plan({"unpacked_bytes": 20_000_000_000}, variant={"ContainerStartupHealthCheckTimeoutInSeconds": 900}),
    ),
    ("H14", lambda: multi({"unpacked_bytes": 3_000_000_000}), multi),
    ("H15", lambda: serverless({"unpacked_bytes": 5_000_000_000}), GOOD),
    ("H15", lambda: serverless(model={"EnableNetworkIsolation": True}), GOOD),
    ("H16", lambda: scaled(CONCURRENCY), lambda: scaled(CONCURRENCY, INVOCATIONS)),
    ("H17", lambda: plan(variant={"RoutingConfig": None}), GOOD),
    ("H18", lambda: multi(environment={**QUIET, **LIVE}), multi),
    ("H19", lambda: plan(variant={"InstanceType": "ml.c9.large"}), GOOD),
    ("H20", lambda: plan({"vcpus": 8}), GOOD),
    ("H21", lambda: plan({"unpacked_bytes": 9 << 30}), GOOD),
    ("H21", lambda: on("ml.g5.8xlarge", unpacked_bytes=30 << 30), lambda: on("ml.g5.8xlarge")),
    ("H22", lambda: component(NumberOfAcceleratorDevicesRequired=1), lambda: component(NumberOfCpuCoresRequired=4)),
    ("H23", lambda: transform(5), lambda: transform(4)),
    ("R1", lambda: plan({"max_batch_size": 1024, "max_length": 8192}), GOOD),
    ("R1", lambda: serverless({"max_batch_size": 128, "max_length": 8192}), serverless),
    ("R2", lambda: kept((";json-header-size=", "; json-header-size=")), kept),
    ("R2", lambda: kept((f'"{BINARY}"', '"application/octet-stream"')), kept),
    ("R2", lambda: kept(("def main", "def def")), kept),
    ("R3", lambda: kept((PARSED, "len(body)")), kept),
    ("R3", lambda: kept(('answer["ContentType"]', "kind"), ('answer.headers["Content-Type"]', "kind")), kept),
    ("V1", lambda: image(IMAGE.replace("eu-central-1", "us-east-1")), GOOD),
    ("V1", lambda: image(IMAGE.replace("25.09", "25.06")), GOOD),
    ("V1", lambda: image("1.dkr.ecr.us-east-1.amazonaws.com/mine:1"), lambda: image("1.dkr.ecr.eu-central-1.x/mine:1")),
    ("V2", lambda: on("ml.g5.xlarge", library="10.9.0.34"), lambda: on("ml.g5.xlarge")),
    ("V3", lambda: plan(variant={"InstanceType": "ml.g5.xlarge"}), lambda: on("ml.g5.xlarge")),
    (
        "V3",
        lambda: plan(
            variant={"InstanceType": "ml.g5.xlarge", "InferenceAmiVersion": "al2-ami-sagemaker-inference-gpu-3-1"}
        ),
        lambda: on("ml.g5.xlarge"),
    ),
    ("V4", lambda: on("ml.g4dn.xlarge"), lambda: on("ml.g5.xlarge")),
    ("V4", lambda: on("ml.c5.xlarge"), lambda: on("ml.g4dn.xlarge", any_gpu=True)),
    (
        "V10",
        lambda: plan({"backends": ("tensorrt_rtx",)}),
        lambda: image("1.dkr.ecr.eu-central-1.x/mine:1", {"backends": ("tensorrt_rtx",)}),
    ),
    ("V5", lambda: kept(beside=".manifest.json"), kept),
    ("V5", lambda: kept(member="m/1/provenance.json"), kept),
    ("V11", lambda: plan({"triton": "24.09"}), GOOD),
]


def asked(what: Asked) -> tuple[Problem, ...]:
    return check(what[0], None, what[1]) if isinstance(what, tuple) else check(what)


@pytest.mark.parametrize(("rule", "bad", "good"), CASES, ids=[f"{case[0]}-{n}" for n, case in enumerate(CASES)])
def test_the_bad_plan_is_found_and_the_good_one_is_not(
    rule: str, bad: Callable[[], Asked], good: Callable[[], Asked]
) -> None:
    found = {one.rule: one for one in asked(bad())}
    assert rule in found, sorted(found)
    assert found[rule].message
    assert found[rule].mend
    assert rule not in {one.rule for one in asked(good())}


def test_every_rule_has_a_case_and_says_why() -> None:
    assert {one.id for one in all_rules()} <= {case[0] for case in CASES}
    assert all(one.title and one.why and one.source for one in RULES.values())


def test_a_good_plan_breaks_none() -> None:
    assert check(plan()) == asked(kept()) == ()
    assert [one for one in check(on("ml.g5.xlarge")) if one.severity == ERROR] == []


def test_a_table_of_ones_own_is_taken(tmp_path: Any) -> None:
    from builder.tools.gpus import load_instances

    path = tmp_path / "instances.json"
    path.write_text('{"instances": [{"name": "ml.c9.large", "vcpus": 8, "memory_gib": 16}]}')
    unknown = plan(variant={"InstanceType": "ml.c9.large"})
    assert "H19" not in {one.rule for one in check(unknown, load_instances(path))}


def test_the_largest_request_is_that_of_a_full_batch() -> None:
    image_input = {"name": "IMAGE", "data_type": "TYPE_FP32", "dims": [3, 224, 224]}
    assert request_bytes(replace(FACTS, inputs=(image_input,))) == 8 * 3 * 224 * 224 * 4 * 3
    assert request_bytes(FACTS) == 8 * 256 * 6
    assert request_bytes(replace(FACTS, max_length=None)) is None
