"""What an endpoint needs for an archive of some size: time to load it, and memory."""

from __future__ import annotations

import math
from typing import Final

_START_SECONDS: Final = 30  # of the container and the server, before any model
_LOAD_BYTES_PER_SECOND: Final = 50_000_000
"""A cautious guess: unpacking, reading and a first inference of each batch size. It only decides time limits."""

HEALTH_SECONDS: Final = 240
"""How long SageMaker waits for a container by default (developer guide, your-algorithms-inference-code)."""

LONGEST_SECONDS: Final = 3600
_MIB: Final = 1 << 20


def seconds_to_load(unpacked_bytes: int) -> int:
    """How long a container may take until it is healthy."""
    return _START_SECONDS + math.ceil(unpacked_bytes / _LOAD_BYTES_PER_SECOND)


def memory_mb(unpacked_bytes: int) -> int:
    """Memory that a copy is sure of: 1 GiB, and twice what the archive unpacks to; a multiple of 128."""
    return math.ceil((1024 + 2 * unpacked_bytes / _MIB) / 128) * 128


def timeout_seconds(unpacked_bytes: int) -> int | None:
    """The time limit of a start: twice what it may take, where the host's own limit may be short."""
    wanted = 2 * seconds_to_load(unpacked_bytes)
    return min(LONGEST_SECONDS, wanted) if wanted > HEALTH_SECONDS else None
