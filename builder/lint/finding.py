"""What lint says: findings of three classes, and the report that holds them."""

from __future__ import annotations

from dataclasses import dataclass

from builder.rulebook import ADVICE, ALL_RELEASES, HOSTING_ERROR, LOAD_ERROR, SEVERITIES, RuleFacts

__all__ = ["ADVICE", "ALL_RELEASES", "HOSTING_ERROR", "LOAD_ERROR", "SEVERITIES", "Finding", "Report"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong at one place.

    Args:
        rule: the id of the rule, ``C9``.
        severity: one of :data:`SEVERITIES`.
        path: the file or folder, relative to what was linted.
        line: its line, from 1; None where there is none.
        message: what is wrong, with the value and what is allowed.
        mend: what to do about it, as an imperative sentence.
        releases: the Triton releases for which a load-error holds: ``all``, ``>=24.11``.
        column: its column, from 1; None where it is not known.
    """

    rule: str
    severity: str
    path: str
    line: int | None
    message: str
    mend: str
    releases: str = ""
    column: int | None = None

    @property
    def place(self) -> str:
        """``path``, ``path:line`` or ``path:line:column``."""
        return ":".join(str(part) for part in (self.path, self.line, self.column) if part is not None)

    @property
    def text(self) -> str:
        """``rule-id class path:line message — how to mend``, in one line."""
        mend = f" — {self.mend}" if self.mend else ""
        return f"{self.rule} {self.severity} {self.place} {self.message}{mend}"


@dataclass(frozen=True, slots=True)
class Report:
    """All findings about one repository, model, archive or recipe.

    Args:
        findings: sorted by path, line and rule.
        models: how many models were looked at.
        rules: those among the rules that found something which are not lint's own, but those of hand-offs.
    """

    findings: tuple[Finding, ...]
    models: int
    rules: tuple[RuleFacts, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are no mere advice."""
        return tuple(found for found in self.findings if found.severity != ADVICE)
