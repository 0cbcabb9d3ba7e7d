"""A queue in a closed loop, worked out event by event: requests as a load generator would have seen them."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SERVICE_SECONDS = 0.0155


def requests(
    users: int, servers: int, seconds: float, service: Callable[[float], float], batch: int = 1
) -> list[tuple[float, float]]:
    """When each request was sent and answered, until nobody sends any more and the last is answered."""
    free = [0.0] * servers
    queue = [(0.0, user) for user in range(users)]
    done = []
    while queue:
        took = [heapq.heappop(queue) for _ in range(min(batch, len(queue)))]
        took = [one for one in took if one[0] <= seconds]
        if not took:
            continue
        began = max(heapq.heappop(free), took[-1][0])
        ended = began + service(began)
        heapq.heappush(free, ended)
        for sent, user in took:
            done.append((sent, ended))
            heapq.heappush(queue, (ended, user))
    return done
