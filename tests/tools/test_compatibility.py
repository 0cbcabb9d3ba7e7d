"""Which TensorRT a plan is made with, and which Triton releases can load it: asked before anything is compiled."""

from __future__ import annotations

import pytest

from builder.errors import UserError
from builder.tools.compatibility import engine_version, loads, serving_facts
from builder.tools.releases import RELEASES


def test_a_plan_is_made_with_the_tensorrt_of_its_release():
    assert engine_version("25.09", None) == "10.13.3.9"
    assert engine_version("25.09", "10.13.3.9") == "10.13.3.9"


def test_an_unknown_tensorrt_is_said_to_be_unknown_and_may_be_stated():
    with pytest.raises(UserError, match=r"the TensorRT of Triton 25.03 is not known.*known: 25.09 \(10.13.3.9\)"):
        engine_version("25.03", None)
    with pytest.raises(UserError, match=r"only known to begin with 10.14"):
        engine_version("25.12", None)
    assert engine_version("25.03", "10.9.0.34") == "10.9.0.34"
    assert engine_version("25.12", "10.14.1.48") == "10.14.1.48"


@pytest.mark.parametrize("stated", ["10.13.2.6", "10.14.1.48", "11.0.0.1"])
def test_a_plan_that_the_release_cannot_load_is_refused(stated):
    with pytest.raises(UserError, match=r"Triton .* has TensorRT .*, which cannot load a plan of TensorRT"):
        engine_version("25.09", stated)


def test_the_refusal_names_the_releases_that_could():
    with pytest.raises(UserError, match=r"releases that could: 25.12 \(10.14\)"):
        engine_version("25.09", "10.14.1.48")
    with pytest.raises(UserError, match="releases that could: none that is known"):
        engine_version("25.09", "11.0.0.1")


@pytest.mark.parametrize(
    ("serving", "made_with", "exact", "compatible"),
    [
        ("10.13.3.9", "10.13.3.9", True, True),
        ("10.13.3.9", "10.13.3.8", False, True),
        ("10.13.3.9", "10.9.0.34", False, True),
        ("10.9.0.34", "10.13.3.9", False, False),  # never an older library
        ("11.0.0.1", "10.13.3.9", False, False),  # nor one of another major version
        ("10.14", "10.14.1.48", True, True),  # known in part
        ("10.14", "10.13.3.9", False, True),
    ],
)
def test_versions(serving, made_with, exact, compatible):
    assert loads(serving, made_with, version_compatible=False) is exact
    assert loads(serving, made_with, version_compatible=True) is compatible


def test_what_the_serving_machine_must_have():
    assert serving_facts("25.09", "tensorrt") == {
        "cuda": "13.0.1",
        "tensorrt": "10.13.3.9",
        "least_driver": 580,
        "inference_amis": ["al2023-ami-sagemaker-inference-gpu-4-1"],
    }
    assert len(serving_facts("24.10", "tensorrt")["inference_amis"]) == 4
    rtx = serving_facts("25.09", "tensorrt-rtx")
    assert "tensorrt" not in rtx
    assert rtx["tensorrt_rtx"] == "1.7.1.116"
    assert all(one.cuda and one.driver for one in RELEASES)
