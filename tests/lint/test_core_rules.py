"""Each rule finds its bad repository, where it should, and nothing in its good one; no rule is without a case."""

from __future__ import annotations

import pytest

from builder.lint import LOAD_ERROR, lint
from builder.lint.rule import RULES
from tests.lint.core_cases import CASES
from tests.lint.repositories import write

MODULES = {"batching", "core", "ensemble", "instances", "links", "python_backend", "repository", "sequences", "tensors"}


@pytest.mark.parametrize("rule_id", CASES)
def test_rule(rule_id, tmp_path):
    case = CASES[rule_id]
    write(case.bad, tmp_path / "bad")
    write(case.good, tmp_path / "good")
    bad = [one for one in lint(tmp_path / "bad", case.options).findings if one.rule == rule_id]
    good = lint(tmp_path / "good", case.options).findings
    assert bad
    assert all(one.message and one.mend and "\n" not in one.text for one in bad)
    assert bad[0].line == (case.line or None)
    # The good side of every case loads: nothing else is wrong with it either.
    assert not [one.text for one in good if one.severity == LOAD_ERROR]


def test_no_rule_is_without_a_case():
    mine = {rule.id for rule in RULES.values() if rule.module in MODULES}
    assert mine == set(CASES)
