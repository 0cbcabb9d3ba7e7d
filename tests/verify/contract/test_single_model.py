"""The single-model contract on a real front end."""

from __future__ import annotations

import pytest

from builder.verify.contract import Subject, probe, prove_single_model

NAME = "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"


@pytest.mark.triton
def test_an_ensemble_is_invoked_as_the_default_model(make_host, subject):
    proven = prove_single_model(subject, make_host(**{NAME: "tiny"}))
    assert [check for check in proven.checks if not check.passed] == []
    names = [check.name for check in proven.checks]
    assert names[:3] == ["serve-decides", "start", "ping"]
    assert {"invoke-json", "invoke-binary", "controls", "invoke-nonsense"} <= set(names)
    assert proven.checks[0].seen == "--load-model=tiny"


@pytest.mark.triton
def test_a_model_that_does_not_load_does_not_start(make_host, pack_texts):
    archive = pack_texts("broken", {"m/config.pbtxt": probe.config("m"), "m/1/model.py": "raise ValueError('no')"})
    proven = prove_single_model(Subject(archive), make_host())
    assert [check.name for check in proven.checks if not check.passed] == ["start"]


def test_what_serve_refuses_is_not_started(make_host, subject):
    proven = prove_single_model(subject, make_host())
    assert [check.name for check in proven.checks] == ["serve-decides"]
    assert "More than 1 model directory" in proven.checks[0].seen
    assert not proven.passed
