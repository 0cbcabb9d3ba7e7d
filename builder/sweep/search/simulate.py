"""A small simulation of Triton: clients, the steps before the model, its scheduler and its instances.

The scheduler is Triton's dynamic batcher as ``dynamic_batch_scheduler.cc`` has it: when an instance is free, a batch is
taken from the queue as soon as it has a preferred size, or the greatest one, or the oldest request has waited for the
queue delay; with no delay, whatever waits is taken. How long a batch takes is the caller's business.
"""

from __future__ import annotations

import heapq
import random
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.sweep.load import Load

_ARRIVES, _ENDS, _WAKES = range(3)
_WARM: Final = 0.2  # of the requests are answered before anything counts
_SERIAL: Final = 0.25  # of a request's overhead keeps the next one waiting: answers of a batch come back one by one


@dataclass(frozen=True, slots=True)
class Scheduler:
    """How requests become batches.

    Args:
        instances: batches that run at the same time.
        largest: items in a batch; 1: requests are never gathered.
        delay_ms: how long the oldest request may wait for others.
        preferred: sizes that are taken at once; empty: the largest.
    """

    instances: int = 1
    largest: int = 1
    delay_ms: float = 0.0
    preferred: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Server:
    """What requests meet.

    Args:
        scheduler: of the model.
        service_ms: (items, batches that run now with this one) → how long a batch takes.
        overhead_ms: of a request that waits for nothing, outside of the steps.
        front_ms: of a request in the steps before the model.
        front_instances: requests that these steps take at the same time.
        spread: factors of service times at equally likely ranks, ascending; their mean is 1.
    """

    scheduler: Scheduler
    service_ms: Callable[[int, int], float]
    overhead_ms: float = 0.0
    front_ms: float = 0.0
    front_instances: int = 1
    spread: tuple[float, ...] = (1.0,)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What clients see. Throughput is inferences per second; latencies are milliseconds, ascending."""

    throughput: float
    latencies_ms: tuple[float, ...]

    def figure(self, name: str) -> float:
        """``throughput``, ``mean_ms``, ``p99_ms`` and so on."""
        if name == "throughput":
            return self.throughput
        if name == "mean_ms":
            return sum(self.latencies_ms) / len(self.latencies_ms)
        return percentile(self.latencies_ms, float(name.removeprefix("p").removesuffix("_ms")))


def percentile(ascending: Sequence[float], percent: float) -> float:
    """Linear between the ranks."""
    place = (len(ascending) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ascending) - 1)
    return ascending[low] + (ascending[high] - ascending[low]) * (place - low)


def simulate(server: Server, load: Load, *, requests: int = 300, seed: int = 0) -> Outcome:
    """So many requests under a load, from an idle server on.

    An open loop that the server cannot follow has latencies that grow with the number of requests, as in reality.
    """
    return _Run(server, load, random.Random(seed)).until(requests)  # noqa: S311 - not for secrets


class _Run:
    def __init__(self, server: Server, load: Load, chance: random.Random) -> None:
        self.server, self.load, self.chance = server, load, chance
        self.events: list[tuple[float, int, int, tuple[float, ...]]] = []
        self.queue: deque[tuple[float, float]] = deque()  # arrived, sent
        self.front = [0.0] * max(1, server.front_instances)  # when each is free again
        self.number = self.busy = 0
        self.wakes_at = -1.0
        self.gap_ms = server.overhead_ms * _SERIAL
        scheduler = server.scheduler
        self.capacity = max(1, scheduler.largest // load.batch)
        self.preferred = sorted(size // load.batch for size in scheduler.preferred if size >= load.batch)

    def until(self, requests: int) -> Outcome:
        """Runs, and throws away what happened while it was warming up."""
        self.begin(requests)
        ended: list[tuple[float, float]] = []
        while len(ended) < requests:
            now, _, kind, sent = heapq.heappop(self.events)
            if kind == _ARRIVES:
                self.queue.append((now, sent[0]))
            elif kind == _ENDS:
                self.busy -= 1
                ended += self.answer(now, sent)
            self.start(now)
        first = max(1, int(len(ended) * _WARM))
        seconds = max((ended[-1][0] - ended[first - 1][0]) / 1000, 1e-9)
        latencies = tuple(sorted(latency for _, latency in ended[first:]))
        return Outcome(len(latencies) * self.load.batch / seconds, latencies)

    def begin(self, requests: int) -> None:
        """Closed loop: each client sends its first request. Open loop: all of them are on their way."""
        if self.load.rate is None:
            for index in range(self.load.concurrency or 1):
                self.send(index * self.gap_ms)
            return
        at, between = 0.0, 1000.0 / self.load.rate
        for _ in range(requests):
            at += self.chance.expovariate(1.0) * between if self.load.arrivals == "poisson" else between
            self.send(at)

    def send(self, at: float) -> None:
        """A request on its way to the model."""
        half = self.server.overhead_ms / 2 * (0.8 + 0.4 * self.chance.random())
        arrived = at + half
        if self.server.front_ms:
            free = min(range(len(self.front)), key=self.front.__getitem__)
            arrived = self.front[free] = max(arrived, self.front[free]) + self.server.front_ms
        self.push(arrived, _ARRIVES, (at,))

    def push(self, at: float, kind: int, sent: tuple[float, ...]) -> None:
        self.number += 1
        heapq.heappush(self.events, (at, self.number, kind, sent))

    def answer(self, now: float, sent: tuple[float, ...]) -> list[tuple[float, float]]:
        """The clients have their answers; in a closed loop they send the next requests."""
        back = now + self.server.overhead_ms / 2
        if self.load.rate is None:
            for index in range(len(sent)):
                self.send(back + index * self.gap_ms)
        return [(back, back - one) for one in sent]

    def start(self, now: float) -> None:
        """Gives free instances what is due."""
        scheduler = self.server.scheduler
        while self.queue and self.busy < scheduler.instances:
            count = self.due(now)
            if not count:
                wakes_at = self.queue[0][0] + scheduler.delay_ms
                if wakes_at != self.wakes_at:
                    self.wakes_at = wakes_at
                    self.push(wakes_at, _WAKES, ())
                return
            self.busy += 1
            sent = tuple(self.queue.popleft()[1] for _ in range(count))
            spread = self.server.spread
            factor = spread[self.chance.randrange(len(spread))] if len(spread) > 1 else spread[0]
            self.push(now + self.server.service_ms(count * self.load.batch, self.busy) * factor, _ENDS, sent)

    def due(self, now: float) -> int:
        """How many requests go into a batch now; 0: they wait for more."""
        scheduler, waiting = self.server.scheduler, min(len(self.queue), self.capacity)
        waited = scheduler.delay_ms > 0 and now >= self.queue[0][0] + scheduler.delay_ms - 1e-9
        reached = bisect_right(self.preferred, waiting)
        if reached and not waited:
            return self.preferred[reached - 1]
        if waiting == self.capacity or scheduler.delay_ms <= 0 or waited:
            return waiting
        return 0
