"""Runs one command and prints, as JSON, what it cost. A script of its own: ``python -I -S spawn.py LOG COMMAND…``.

It is small on purpose: Linux counts the memory of the process that forks into the peak of the child (``ru_maxrss``
outlives ``exec``), so a child of the benchmark itself would never show less than the benchmark's own memory.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    """Runs ``COMMAND…`` with its output going to the file ``LOG``."""
    log, *command = sys.argv[1:]
    actions = [
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    began = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)  # noqa: TID251 - handed on unread
    _, status, usage = os.wait4(pid, 0)
    wall_seconds = time.perf_counter() - began
    facts = {
        "returncode": os.waitstatus_to_exitcode(status),
        "wall_seconds": wall_seconds,
        "user_seconds": usage.ru_utime,
        "system_seconds": usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
    }
    os.write(1, json.dumps(facts).encode())


main()
