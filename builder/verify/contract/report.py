"""What the contract is asked about, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from builder.artifacts import Json
    from builder.tools.sagemaker_front_end import Answer
    from builder.tools.toolchain import Toolchain
    from builder.verify.facts import ArchiveFacts

MULTI: Final = "sagemaker-mme"
SINGLE: Final = "sagemaker"


@dataclass(frozen=True, slots=True)
class Subject:
    """An archive, and what is known of it.

    Args:
        archive: a ``.tar.gz``, from anybody.
        facts: what lies beside it; None: nothing does, and so its answers cannot be compared.
        tolerances: what its answers are held against.
    """

    archive: Path
    facts: ArchiveFacts | None = None
    tolerances: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Host:
    """What serves: the toolchain, the Python environment of the stubs, and the variables of the container."""

    toolchain: Toolchain
    environment: Path
    variables: Mapping[str, str]
    folder: Path  # for unpacked archives and logs


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that the contract says, and what was seen."""

    name: str
    expected: str
    seen: str
    passed: bool

    def as_json(self) -> Json:
        """For ``--json``."""
        return {"name": self.name, "expected": self.expected, "seen": self.seen, "passed": self.passed}


@dataclass(frozen=True, slots=True)
class Proven:
    """The checks of one archive, or (where it names none) of the front end.

    ``parity`` is as :func:`builder.verify.measure.compare_ways` makes it; empty where nothing could be compared.
    """

    archive: Path | None
    checks: tuple[Check, ...]
    parity: Mapping[str, Json] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)  # variables of the container

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def as_json(self) -> Json:
        """For ``--json``: stable keys, absolute paths."""
        return {
            "archive": None if self.archive is None else str(self.archive.absolute()),
            "passed": self.passed,
            "checks": [check.as_json() for check in self.checks],
            "parity": dict(self.parity),
            "environment": dict(self.environment),
        }


def answers(name: str, answer: Answer, *statuses: int) -> Check:
    """The check that an answer has one of these statuses."""
    expected = " or ".join(map(str, statuses))
    return Check(name, expected, tell(answer), answer.status in statuses)


def tell(answer: Answer) -> str:
    """An answer in one line."""
    error = " ".join(answer.error.split())
    return f"{answer.status}: {error}" if error else str(answer.status)


def passed(checks: Iterable[Check]) -> bool:
    """Whether all of them did."""
    return all(check.passed for check in checks)
