"""What a server that is killed would leave behind, beside its shared memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_ENVIRONMENT: Final = re.compile(rb"(?:^|[\0=:])(/tmp/python_env_\w{6})/")  # mkdtemp in python_backend/src/pb_env.cc


def environments(server_name: str) -> set[Path]:
    """Where a running server has unpacked the environments of its Python steps: gigabytes, maybe.

    The backend tells nobody, but it puts the place into the environment of each stub, whose shared memory has the
    server's name.

    Args:
        server_name: its ``--id``, which is also the prefix of its shared memory.
    """
    found: set[Path] = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if server_name.encode() in (process / "cmdline").read_bytes():
                places = _ENVIRONMENT.findall((process / "environ").read_bytes())
                found |= {Path(place.decode()) for place in places}
        except OSError:  # it has ended, or is somebody else's
            continue
    return found
