"""Deploying: against moto, which keeps what it is told, where it has the call; against botocore's Stubber elsewhere."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from builder.cli import main
from builder.errors import DamagedError, UserError
from builder.handoff import resources
from builder.handoff.deploy import deploy
from builder.handoff.gather import gather
from builder.handoff.plan import Call, Plan
from builder.tools import aws as tools
from builder.tools.aws import Aws, AwsError, connect
from tests.handoff.shipping import BASE, plan_of, settings, ship

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CANARY = "canary-7f1e"
REGION = "eu-central-1"
ENDPOINT = {
    "instance": "ml.c5.xlarge",
    "autoscaling": {"max": 3, "concurrency": 4.0, "invocations_per_minute": 100.0},
}


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"AKIA{CANARY}")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"secret-{CANARY}")
    monkeypatch.setenv("AWS_SESSION_TOKEN", f"token-{CANARY}")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(resources, "POLL_SECONDS", 0.0)


@pytest.fixture
def aws() -> Iterator[Aws]:
    with mock_aws(config={"core": {"mock_credentials": False}}):
        found = connect(REGION)
        found.client("s3").create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": REGION})
        yield found


def keys(aws: Aws) -> list[str]:
    return [one["Key"] for one in aws.client("s3").list_objects_v2(Bucket="models").get("Contents", [])]


def left(aws: Aws) -> dict[str, int]:
    sagemaker, scaling = aws.client("sagemaker"), aws.client("application-autoscaling")
    return {
        "objects": len(keys(aws)),
        "models": len(sagemaker.list_models()["Models"]),
        "configs": len(sagemaker.list_endpoint_configs()["EndpointConfigs"]),
        "endpoints": len(sagemaker.list_endpoints()["Endpoints"]),
        "targets": len(scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]),
        "policies": len(scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]),
    }


ALL = {"objects": 1, "models": 1, "configs": 1, "endpoints": 1, "targets": 1, "policies": 2}
NONE = dict.fromkeys(ALL, 0)


def test_a_second_run_finds_all_that_the_first_made(aws: Aws, tmp_path: Path) -> None:
    shipped = gather([ship(tmp_path)])
    plan = plan_of(settings({"endpoint": ENDPOINT}), shipped)
    first, second = deploy(plan, shipped, aws), deploy(plan, shipped, aws)
    assert left(aws) == ALL
    assert (first.found, second.made) == ([], [])
    assert second.found == first.made
    head = aws.client("s3").head_object(Bucket="models", Key=plan.uploads[0].key)
    assert head["Metadata"]["sha256"] == plan.uploads[0].sha256


def scaling(aws: Aws) -> tuple[int, list[float]]:
    client = aws.client("application-autoscaling")
    (target,) = client.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    policies = client.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    targets = [one["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] for one in policies]
    return target["MaxCapacity"], sorted(targets)


def test_scaling_is_set_anew_and_set_back_when_a_later_step_fails(aws: Aws, tmp_path: Path) -> None:
    shipped = gather([ship(tmp_path)])
    deploy(plan_of(settings({"endpoint": ENDPOINT}), shipped), shipped, aws)
    wider = plan_of(settings({"endpoint": merged_scaling(max=5, concurrency=8.0)}), shipped)
    with pytest.raises(AwsError):
        deploy(replace(wider, calls=(*wider.calls, WRONG)), shipped, aws)
    assert scaling(aws) == (3, [4.0, 100.0])
    assert deploy(wider, shipped, aws).made == [wider.calls[3].name, wider.calls[4].name]
    assert scaling(aws) == (5, [8.0, 100.0])


WRONG = Call("sagemaker", "CreateTransformJob", {"TransformJobName": "x"})


def merged_scaling(**more: Any) -> dict[str, Any]:
    return {**ENDPOINT, "autoscaling": {**ENDPOINT["autoscaling"], **more}}  # type: ignore[dict-item]


def test_what_was_made_is_removed_when_a_step_fails_and_what_was_there_is_kept(aws: Aws, tmp_path: Path) -> None:
    shipped = gather([ship(tmp_path)])
    plan = plan_of(settings({"endpoint": ENDPOINT}), shipped)
    with pytest.raises(AwsError, match="what was made is removed again"):
        deploy(replace(plan, calls=(*plan.calls, WRONG)), shipped, aws)
    assert left(aws) == NONE
    deploy(replace(plan, calls=plan.calls[:2]), shipped, aws)
    with pytest.raises(AwsError):
        deploy(replace(plan, calls=(*plan.calls, WRONG)), shipped, aws)
    assert left(aws) == {**NONE, "objects": 1, "models": 1, "configs": 1}


def test_nothing_is_ever_replaced(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = gather([ship(tmp_path)])
    plan = plan_of(settings({"endpoint": {**ENDPOINT, "name": "fixed"}}), shipped)
    upload = plan.uploads[0]
    aws.client("s3").put_object(Bucket="models", Key=upload.key, Body=b"of somebody else")
    with pytest.raises(UserError, match="is there, and is not this archive"):
        deploy(plan, shipped, aws)
    with monkeypatch.context() as blind:
        blind.setattr(tools, "digest_in_s3", lambda *_: None)  # as if it came after we had looked
        with pytest.raises(AwsError, match="PreconditionFailed"):
            deploy(plan, shipped, aws)
    with pytest.raises(AwsError, match="PreconditionFailed"):
        tools.upload(aws, shipped[0].path, "models", upload.key, upload.sha256)
    aws.client("s3").delete_object(Bucket="models", Key=upload.key)
    deploy(plan, shipped, aws)
    other = plan_of(settings({"endpoint": {**ENDPOINT, "name": "fixed", "count": 2}}), shipped)
    with pytest.raises(UserError, match="the endpoint fixed is there, with the configuration"):
        deploy(other, shipped, aws)
    assert left(aws) == ALL


def test_large_files_go_in_parts_and_changed_ones_not_at_all(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "PART_BYTES", 5 << 20)
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * (12 << 12))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    tools.upload(aws, path, "models", "large", sha256)
    found = aws.client("s3").get_object(Bucket="models", Key="large")
    assert found["Body"].read() == path.read_bytes()
    assert tools.digest_in_s3(aws, "models", "large") == sha256
    for size in (12 << 20, 3):
        path.write_bytes(b"x" * size)
        with pytest.raises(DamagedError, match="is not what it was"):
            tools.upload(aws, path, "models", "other", sha256)
    assert keys(aws) == ["large"]
    assert aws.client("s3").list_multipart_uploads(Bucket="models").get("Uploads", []) == []


def test_folders_go_file_by_file(aws: Aws, tmp_path: Path) -> None:
    shipped = gather([ship(tmp_path, kind="s3-prefix")])
    plan = plan_of(settings(), shipped)
    deploy(plan, shipped, aws)
    assert keys(aws) == [f"{plan.uploads[0].key}tiny/1/model.py", f"{plan.uploads[0].key}tiny/config.pbtxt"]


def test_no_credential_is_in_any_file_or_word(aws: Aws, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    archive = ship(tmp_path, section={**BASE, "endpoint": ENDPOINT})
    for region in (REGION, "eu-west-1"):  # where there is no such bucket: an error
        with pytest.raises(SystemExit):
            main(["handoff", str(archive), "--to", "sagemaker", "-o", str(tmp_path / "out"), "--deploy", "-v",
                  "--set", f"handoff.sagemaker.region={region}",
                  "--set", f"handoff.sagemaker.bucket={'models' if region == REGION else 'nowhere'}"])  # fmt: skip
    said = capsys.readouterr()
    assert "made     s3://models/" in said.out
    assert "nowhere" in said.err
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert CANARY not in said.out + said.err
    assert not any(CANARY.encode() in data for data in files)
    with pytest.raises(AwsError) as refused, tools.answered(aws, "x"):
        raise _client_error(f"SignatureDoesNotMatch: x-amz-security-token:token-{CANARY} of AKIA{CANARY}")
    assert str(refused.value) == "x: Code: SignatureDoesNotMatch: x-amz-security-token:*** of ***"
    assert refused.value.__suppress_context__


def _client_error(message: str) -> Exception:
    from botocore.exceptions import ClientError

    return ClientError({"Error": {"Code": "Code", "Message": message}}, "Operation")


def test_no_credentials_are_the_users_business(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(UserError, match="no AWS credentials"):
        connect(REGION)


@dataclass
class Stubbed:
    """An account whose SageMaker says what a test wrote down; requests are held against botocore's shapes."""

    session: Any
    sagemaker: Any

    def client(self, service: str) -> Any:
        assert service == "sagemaker"
        return self.sagemaker

    def secrets(self) -> tuple[str, ...]:
        return ()


@pytest.fixture
def stubbed() -> tuple[Any, Stubber]:
    client = boto3.client("sagemaker", region_name=REGION)
    return Stubbed(None, client), Stubber(client)


WHEN = "2026-11-20T00:00:00Z"
ARN = "arn:aws:sagemaker:eu-central-1:123456789012:inference-component/c"


def component(status: str, **more: Any) -> dict[str, Any]:
    names = {"InferenceComponentName": "c", "EndpointName": "e", "InferenceComponentArn": ARN}
    times = {"CreationTime": WHEN, "LastModifiedTime": WHEN}
    endpoint = "arn:aws:sagemaker:eu-central-1:123456789012:endpoint/e"
    return {**names, **times, "EndpointArn": endpoint, "InferenceComponentStatus": status, **more}


def component_call(tmp_path: Path) -> tuple[Any, Any]:
    section = {"endpoint": {"instance": "ml.c5.xlarge", "components": {"copies": 1}}}
    shipped = gather([ship(tmp_path)])
    plan = plan_of(settings(section), shipped)
    (call,) = [call for call in plan.calls if call.operation == "CreateInferenceComponent"]
    return replace(plan, uploads=(), calls=(call,)), call


@pytest.mark.parametrize("ends", ["InService", "Failed"])
def test_components_are_awaited_and_removed_when_they_fail(
    stubbed: tuple[Any, Stubber], tmp_path: Path, ends: str
) -> None:
    account, stub = stubbed
    plan, call = component_call(tmp_path)
    name = {"InferenceComponentName": call.name}
    absent: Callable[[], None] = lambda: stub.add_client_error(  # noqa: E731
        "describe_inference_component", "ValidationException", "Could not find inference component", 400, None, name
    )
    absent()
    stub.add_response("create_inference_component", {"InferenceComponentArn": ARN}, call.parameters)
    stub.add_response("describe_inference_component", component("Creating"), name)
    stub.add_response("describe_inference_component", component(ends, FailureReason="no room"), name)
    if ends == "Failed":
        stub.add_response("delete_inference_component", {}, name)
        absent()
    with stub:
        if ends == "Failed":
            with pytest.raises(AwsError, match="is Failed: no room; what was made is removed again"):
                deploy(plan, (), account)
        else:
            assert deploy(plan, (), account).made == [call.name]
    stub.assert_no_pending_responses()


def test_one_that_is_being_made_is_removed_when_that_is_over(stubbed: tuple[Any, Stubber], tmp_path: Path) -> None:
    account, stub = stubbed
    _, call = component_call(tmp_path)
    stub.add_client_error("delete_inference_component", "ValidationException", "Cannot update in-progress")
    for status in ("Creating", "Creating", "InService"):
        stub.add_response("describe_inference_component", component(status))
    stub.add_response("delete_inference_component", {})
    stub.add_client_error("describe_inference_component", "ValidationException", "Could not find it")
    with stub:
        resources.remove(account, call)
    stub.assert_no_pending_responses()


def test_whoever_is_faster_is_adopted(stubbed: tuple[Any, Stubber]) -> None:
    account, stub = stubbed
    call = Call("sagemaker", "CreateModel", {"ModelName": "m"})
    stub.add_client_error("describe_model", "ValidationException", 'Could not find model "m".')
    stub.add_client_error("create_model", "ValidationException", "Cannot create already existing model")
    plan = Plan(REGION, "", (), (), (call,))
    with stub:
        assert deploy(plan, (), account).found == ["m"]


def test_load_tests_are_started_and_told_when_they_cannot_be_stopped(
    stubbed: tuple[Any, Stubber], tmp_path: Path, caplog: Any
) -> None:
    account, stub = stubbed
    caplog.set_level(logging.INFO, "builder")
    wanted = {"instances": ["ml.c5.xlarge"], "payload": "s3://models/p.tar.gz"}
    shipped = gather([ship(tmp_path)])
    plan = plan_of(settings({"recommendations": wanted}), shipped)
    job = plan.calls[-1]
    bad = Call("sagemaker", "CreateModel", {"ModelName": "m"})
    stub.add_client_error("describe_inference_recommendations_job", "ResourceNotFound")
    stub.add_response("create_inference_recommendations_job", {"JobArn": f"{ARN[:57]}:inference-recommendations-job/j"},
                      job.parameters)  # fmt: skip
    stub.add_client_error("describe_model", "ValidationException", "Could not find model")
    stub.add_client_error("create_model", "ResourceLimitExceeded", "too many")
    stub.add_client_error("stop_inference_recommendations_job", "ThrottlingException", "slow down")
    with stub, pytest.raises(AwsError, match=r"ResourceLimitExceeded: too many; could not be removed: .*slow down"):
        deploy(replace(plan, uploads=(), calls=(job, bad)), (), account)
    stub.assert_no_pending_responses()
    assert json.dumps(job.parameters)
