"""What the kernel says of a process: ``/proc/PID/stat``, see proc_pid_stat(5)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """Its process group, and what it has used so far in user and system mode, in ticks of 10 ms."""

    group: int
    processor_seconds: float

    @classmethod
    def read(cls, process: Path) -> Self:
        """Of a folder of ``/proc``.

        Raises:
            OSError: it has ended.
        """
        after_name = (process / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        ticks = int(after_name[11]) + int(after_name[12])
        return cls(int(after_name[2]), ticks / os.sysconf("SC_CLK_TCK"))
