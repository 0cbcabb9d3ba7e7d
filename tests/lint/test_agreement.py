"""Lint and the real server on a seeded share of the mutants; ``scripts/soak --lint N`` takes thousands."""

from __future__ import annotations

import random

import pytest

from builder.lint.options import AUTO_COMPLETE, STRICT
from builder.lint.rule import RULES
from tests.lint import light
from tests.lint.agreement import Score, score_configs, score_loads
from tests.lint.fleet import Case, Fleet
from tests.lint.mutate import MIX, config_mutants, mutants
from tests.lint.mutate_files import in_files
from tests.lint.repositories import BASES, Base

pytestmark = pytest.mark.triton


@pytest.fixture
def fleet(toolchain, server_environment, tmp_path):
    return lambda mode, **more: Fleet(toolchain, server_environment, tmp_path / mode, mode, **more)


@pytest.mark.parametrize("mode", [STRICT, AUTO_COMPLETE])
def test_configs(fleet, mode, tmp_path, monkeypatch):
    cases = list(config_mutants(200, seed=5))
    verdicts = fleet(mode).verdicts(cases)
    found = Score()
    score_configs(found, cases, verdicts, mode, tmp_path / "cases")
    assert found.disagreements == []
    assert found.cases == len(cases)
    assert min(found.refused_by_both, found.loaded_by_both) > 40
    assert len(found.rules) > 8
    monkeypatch.delitem(RULES, "E1")  # the control: without a rule, refusals are missed
    without = Score()
    score_configs(without, cases, verdicts, mode, tmp_path / "cases")
    assert without.missed


def test_loads(fleet, tmp_path):
    found, cases = Score(), list(mutants(48, seed=1006))[len(MIX) :]  # the first are the bases; none of these hangs
    score_loads(found, cases, fleet(STRICT).verdicts(cases), STRICT, tmp_path / "cases")
    assert found.disagreements == []
    assert min(found.refused_by_both, found.loaded_by_both) > 5


def test_what_is_asked_with_numpy():
    needs = {name for name, base in BASES.items() if not light.is_enough(Case(name, name, name, base("").files))}
    assert needs == {"plain", "onnx"}  # one is warmed up, the other one computes


def test_a_model_that_loses_its_last_file_is_still_there():
    left = []
    for seed in range(40):
        base = Base("m", {"m/1/model.py": ""})
        if in_files(base, random.Random(seed), "").startswith("remove "):
            left.append(base.files)
    assert left
    assert all(files == {"m/": ""} for files in left)
