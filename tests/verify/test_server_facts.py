from dataclasses import replace

import pytest

from builder.tools.python_env import python_minor
from builder.tools.releases import release
from builder.verify.server_facts import describe_server, executions, models, stand_ins

RELEASE = release("25.09")
PLAIN = [{"name": "a", "backend": "python"}, {"name": "b", "platform": "ensemble"}]


def test_a_server_that_is_that_of_production_stands_in_for_nothing():
    assert stand_ins(PLAIN, "2.61.0", (3, 12), RELEASE) == []


@pytest.mark.parametrize(
    ("configs", "version", "what"),
    [
        (PLAIN, "2.51.0", "tritonserver"),
        ([*PLAIN, {"name": "c", "backend": "onnxruntime"}], "2.61.0", "backend onnxruntime"),
        ([*PLAIN, {"name": "c", "response_cache": {"enable": True}}], "2.61.0", "response cache"),
    ],
)
def test_each_difference_to_production_is_told(configs, version, what):
    (difference,) = stand_ins(configs, version, (3, 12), RELEASE)
    assert difference["what"] == what
    assert difference["used"] != difference["production"]


def test_another_python_of_the_steps_is_told():
    (difference,) = stand_ins(PLAIN, "2.61.0", (3, 11), RELEASE)
    assert difference == {"what": "python of the steps", "used": "3.11", "production": "3.12"}
    (difference,) = stand_ins(PLAIN, "2.61.0", (3, 11), replace(RELEASE, python=None))
    assert difference["production"] == "not known"
    assert stand_ins([{"platform": "ensemble"}], "2.61.0", (3, 11), RELEASE) == []


@pytest.mark.triton
def test_an_ensemble_is_described_with_its_steps(asker, facts, server_environment):
    assert models(asker.client, "tiny") == ("tiny", "tiny-tokenize", "tiny-model")
    found = describe_server(asker.client, facts, server_environment)
    assert (found["provider"], found["version"], found["onnxruntime"]) == ("embedded", "2.51.0", "1.23.0")
    assert found["target"] == {"triton": "25.09", "version": "2.61.0", "onnxruntime": "1.23.0"}
    python = [] if python_minor(server_environment) == (3, 12) else ["python of the steps"]
    assert [one["what"] for one in found["stand_ins"]] == ["tritonserver", *python, "backend onnxruntime"]
    assert found["overrides"] == []


@pytest.mark.triton
def test_executions_are_counted(asker):
    before = executions(asker.client, "tiny")
    asker.ask([0, 1, 2])
    after = executions(asker.client, "tiny")
    assert after["tiny-model"]["texts"] - before["tiny-model"]["texts"] == 3
    assert after["tiny-model"]["executions"] - before["tiny-model"]["executions"] == 1
