"""Costs of a whole process, from its start to its end: wall, processor time, peak memory."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import MachineError
from builder.settings import environment
from builder.tools import process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SPAWN = Path(__file__).with_name("spawn.py")
_LINES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process cost, with the processes that it started and waited for."""

    wall_seconds: float
    user_seconds: float
    system_seconds: float
    peak_bytes: int  # resident memory of the largest process

    @property
    def cpu_seconds(self) -> float:
        """User and system time together."""
        return self.user_seconds + self.system_seconds

    def to_json(self) -> dict[str, float]:
        """Its figures by name."""
        return asdict(self)


def cost(
    command: Sequence[str | Path], *, what: str, env: Mapping[str, str] | None = None, timeout_seconds: float = 600.0
) -> Usage:
    """Runs ``command`` in a fresh process and measures it.

    Args:
        command: program and arguments.
        what: what it does, for messages.
        env: variables set on top of the environment of this process.
        timeout_seconds: after this it is killed.

    Raises:
        MachineError: it cannot be started, took too long or failed; its last lines are shown.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        helper = [sys.executable, "-I", "-S", _SPAWN, log, *command]
        whole = {**environment(), **(env or {})}
        completed = process.run(helper, what=what, env=whole, timeout_seconds=timeout_seconds)
        facts = json.loads(completed.stdout)
        status = facts.pop("returncode")
        if status != 0:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES_SHOWN:]
            raise MachineError("\n".join([f"{what}: {process.describe_status(status)}", *lines]))
    return Usage(**facts)


def cost_in_order(commands: Sequence[Sequence[str | Path]], *, what: str) -> Usage:
    """The cost of several commands, one after the other, as if they were one: ``cp`` and then ``sha256sum``."""
    costs = [cost(command, what=what) for command in commands]
    return Usage(
        wall_seconds=sum(part.wall_seconds for part in costs),
        user_seconds=sum(part.user_seconds for part in costs),
        system_seconds=sum(part.system_seconds for part in costs),
        peak_bytes=max(part.peak_bytes for part in costs),
    )
