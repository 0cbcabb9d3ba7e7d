"""What the executor tells while it works. The console implements it; libraries never print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from builder.errors import BlockedError

RAN: Final = "ran"
FOUND: Final = "found"


@dataclass(frozen=True, slots=True)
class StageTime:
    """How long a node took, and whether it ran or its output was found in the store."""

    node: str  # recipe/source/model/target/format/stage
    stage: str
    seconds: float
    state: str = RAN
    peak_bytes: int | None = None  # of memory, where it ran in a process of its own


class Reporter(Protocol):
    """Listens to the executor.

    Details inside a stage are talk: they go through ``logging`` at level INFO, from loggers below ``builder``.
    """

    def started(self, node: str) -> None:
        """A node begins to run."""

    def finished(self, time: StageTime) -> None:
        """A node ended well; its output is published. One that was found did not start."""

    def failed(self, node: str, seconds: float) -> None:
        """A node raised; nothing of it is published."""

    def blocked(self, node: str) -> None:
        """A node cannot run on this machine."""


class Silent:
    """A reporter that says nothing, for tests and library use."""

    def started(self, node: str) -> None:
        pass

    def finished(self, time: StageTime) -> None:
        pass

    def failed(self, node: str, seconds: float) -> None:
        pass

    def blocked(self, node: str) -> None:
        pass


def ended(reporter: Reporter, node: str, seconds: float, error: BaseException) -> None:
    """Tells of a node that began and did not end well."""
    if isinstance(error, BlockedError):
        reporter.blocked(node)
    else:
        reporter.failed(node, seconds)
