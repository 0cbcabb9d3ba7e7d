"""Findings as SARIF 2.1.0, for code hosts that show them beside the lines.

Format: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from builder import __version__
from builder.lint.finding import ADVICE
from builder.lint.rule import RULES

if TYPE_CHECKING:
    from builder.lint.finding import Finding, Report
    from builder.rulebook import RuleFacts

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_ADDRESS: Final = "https://github.com/tritonsmith/tritonsmith"


def to_sarif(report: Report, linted: str = "") -> dict[str, Any]:
    """One run: the rules that found something, and their results.

    Args:
        report: the findings.
        linted: the folder or archive that was linted, as it was named: code hosts want paths from where it ran.
    """
    known: dict[str, RuleFacts] = {**RULES, **{rule.id: rule for rule in report.rules}}
    found_by = {found.rule for found in report.findings}
    used = [rule for rule in known.values() if rule.id in found_by]
    index = {rule.id: number for number, rule in enumerate(used)}
    driver = {
        "name": "tritonsmith lint",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [_rule(rule) for rule in used],
    }
    results = [_result(found, index[found.rule], linted) for found in report.findings]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(rule: RuleFacts) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": f"{rule.title}: {rule.why}"},
        "help": {"text": f"{rule.why.rstrip('.')}. Source: {rule.source}."},
        "defaultConfiguration": {"level": _level(rule.severity)},
        "properties": {"class": rule.severity, "releases": rule.releases, "hosts": list(rule.hosts)},
    }


def _result(found: Finding, index: int, linted: str) -> dict[str, Any]:
    path = posixpath.normpath(posixpath.join(linted, found.path))
    location: dict[str, Any] = {"artifactLocation": {"uri": quote(path)}}
    if found.line is not None:
        location["region"] = {"startLine": found.line}
        if found.column is not None:
            location["region"]["startColumn"] = found.column
    text = f"{found.message} — {found.mend}" if found.mend else found.message
    return {
        "ruleId": found.rule,
        "ruleIndex": index,
        "level": _level(found.severity),
        "message": {"text": text},
        "locations": [{"physicalLocation": location}],
    }


def _level(severity: str) -> str:
    return "warning" if severity == ADVICE else "error"
