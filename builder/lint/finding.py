"""What lint says: findings of three classes, and the report that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LOAD_ERROR: Final = "load-error"
"""The server refuses to load the model, in the releases that the finding names."""

HOSTING_ERROR: Final = "hosting-error"
"""A server loads it, but the host (SageMaker) refuses it or does something else with it."""

ADVICE: Final = "advice"
"""It loads and can be hosted, but works badly or by chance."""

SEVERITIES: Final = (LOAD_ERROR, HOSTING_ERROR, ADVICE)

ALL_RELEASES: Final = "all"


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
    """

    findings: tuple[Finding, ...]
    models: int

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are no mere advice."""
        return tuple(found for found in self.findings if found.severity != ADVICE)
