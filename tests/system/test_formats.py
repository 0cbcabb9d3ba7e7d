"""The format that is not packed, through every command that a user may give its folder to."""

import json
from pathlib import Path

import pytest

from tests.system.conftest import BRISK


def finished(process):
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


@pytest.mark.triton
@pytest.mark.slow
def test_a_folder_is_proven_shown_handed_off_and_refused_once_it_was_changed(again):
    formats = ("--set", "package.formats=[s3-prefix]")
    code, out, err = finished(again.start("build", again.recipe, "--json", *formats, program=BRISK))
    assert code == 0, err
    (built,) = json.loads(out)["archives"]
    assert (built["format"], built["status"], built["stages"]["measure"]) == ("s3-prefix", "passed", "ran")
    assert built["stages"]["package"] == "found", "what a format makes of it changes no repository"
    folder = Path(built["archive"])
    assert (folder / "tiny/config.pbtxt").is_file()
    assert built["sha256"] == built["tree_digest"]
    assert again("plan", again.recipe, "--check", *formats).code == 0

    shown = again("inspect", folder, "--json").json
    assert (shown["kind"], shown["provenance"]["subject"][0]["name"]) == ("repository", folder.name)
    where = {"role_arn": "arn:aws:iam::123456789012:role/r", "region": "eu-central-1", "bucket": "models"}
    asked = [word for key, value in where.items() for word in ("--set", f"handoff.sagemaker.{key}={value}")]
    handed = again("handoff", folder, "--to", "sagemaker", "--json", *asked)
    assert handed.code == 0, handed.err
    release = Path(handed.json["folder"])
    container = json.loads((release / "requests/01-sagemaker-CreateModel.json").read_text())["PrimaryContainer"]
    assert container["ModelDataSource"]["S3DataSource"] == {
        "S3Uri": f"s3://models/tritonsmith/{folder.name}/",
        "S3DataType": "S3Prefix",
        "CompressionType": "None",
    }
    assert (release / f"archives/{folder.name}.manifest.json").is_file()

    (folder / "tiny/1/more").touch()
    for command in (("verify", folder), ("handoff", folder, "--to", "sagemaker", *asked)):
        refused = again(*command)
        assert refused.code in {2, 3}
        assert "tiny/1/more: does not belong there" in refused.err
