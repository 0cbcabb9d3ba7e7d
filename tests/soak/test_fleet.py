"""A share of the fleet (`scripts/soak --fleet`): every answer right, and a wrong one is noticed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builder.verify.contract.report import Host
from tests.soak import fleet


@pytest.mark.triton
def test_a_fleet_with_little_room_answers_right_and_an_impostor_is_noticed(toolchain, server_environment, tmp_path):
    bucket = fleet.make_bucket(tmp_path / "bucket", 3)
    bucket[2] = replace(bucket[2], factor=7.0)  # what its archive holds multiplies by another number
    (tmp_path / "host").mkdir()
    host = Host(toolchain, server_environment, {"SAGEMAKER_TRITON_PING_MODE": "live"}, tmp_path / "host")
    found = fleet.drive(host, bucket, room=2, requests=5, seed=1)
    assert found["most_loaded"] == 2
    assert found["loads"] > 2
    assert found["unloads"] >= found["loads"] - 2
    assert found["failures"]
    assert {failure.partition(":")[0] for failure in found["failures"]} == {"model-002.tar.gz"}
