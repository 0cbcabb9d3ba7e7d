"""SARIF: what a reader of the format relies on, written down as a schema of our own."""

from __future__ import annotations

import json

import jsonschema
import pytest

from builder.lint import Finding, Report, lint
from builder.lint.rule import RULES
from builder.lint.sarif import SCHEMA, to_sarif
from tests.lint.hosting_cases import CASES, SINGLE, make

TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
LEVEL = {"enum": ["none", "note", "warning", "error"]}


def exactly(**properties) -> dict:
    """An object that has these keys and no others."""
    return {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": False}


RULE = exactly(
    id={"type": "string"}, shortDescription=TEXT, fullDescription=TEXT, help=TEXT,
    defaultConfiguration=exactly(level=LEVEL), properties={"type": "object"},
)  # fmt: skip
POSITIVE = {"type": "integer", "minimum": 1}
REGION = {"type": "object", "required": ["startLine"], "additionalProperties": False,
          "properties": {"startLine": POSITIVE, "startColumn": POSITIVE}}  # fmt: skip
PHYSICAL = {
    "type": "object",
    "required": ["artifactLocation"],
    "additionalProperties": False,
    "properties": {
        # A relative reference, as RFC 3986 has it: neither blanks nor colons before the first slash.
        "artifactLocation": exactly(uri={"type": "string", "pattern": r"^[A-Za-z0-9._~%!$&'()*+,;=@/-]+$"}),
        "region": REGION,
    },
}
RESULT = exactly(
    ruleId={"enum": list(RULES)}, ruleIndex={"type": "integer", "minimum": 0}, level=LEVEL, message=TEXT,
    locations={"type": "array", "minItems": 1, "items": exactly(physicalLocation=PHYSICAL)},
)  # fmt: skip
DRIVER = exactly(
    name={"const": "tritonsmith lint"}, version={"type": "string"}, semanticVersion={"type": "string"},
    rules={"type": "array", "uniqueItems": True, "items": RULE},
)  # fmt: skip
RUN = exactly(
    tool=exactly(driver=DRIVER),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    results={"type": "array", "items": RESULT},
)
LOG = exactly(**{"$schema": {"const": SCHEMA}, "version": {"const": "2.1.0"},
                 "runs": {"type": "array", "minItems": 1, "items": RUN}})  # fmt: skip


def checked(report: Report) -> dict:
    log = json.loads(json.dumps(to_sarif(report)))
    jsonschema.validate(log, LOG)
    return log["runs"][0]


@pytest.mark.parametrize("rule_id", ["C4", "A11", "H7", "O3"])
def test_findings_are_sarif(rule_id, tmp_path):
    case = CASES[rule_id]
    report = lint(make(case.bad, tmp_path), case.options)
    run = checked(report)
    rules = run["tool"]["driver"]["rules"]
    for result, found in zip(run["results"], report.findings, strict=True):
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == found.rule
        assert (result["level"] == "error") == (found in report.errors)
        region = result["locations"][0]["physicalLocation"].get("region", {})
        assert region.get("startLine") == found.line


def test_nothing_found_is_a_run_without_results(tmp_path):
    assert checked(Report((), 1))["results"] == []


def test_odd_names_are_quoted():
    found = Finding("A13", "advice", "a b/ü#?.py", 3, "x", "y", column=7)
    place = checked(Report((found,), 1))["results"][0]["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "a%20b/%C3%BC%23%3F.py"}, "region": {"startLine": 3, "startColumn": 7}}


def test_the_schema_can_refuse(tmp_path):
    log = to_sarif(lint(make(CASES["C4"].bad, tmp_path), SINGLE))
    log["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(log, LOG)
