"""A server that is not there: unlike the search's own simulation, it shares the processor from moment to moment, has
texts of several lengths that cannot be in one batch, batches whose cost bends, a tokenizer and a client that want the
same cores, and noise.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from builder.sweep.load import Load
from builder.sweep.point import Interval, Point
from builder.sweep.search.model import Reading
from builder.sweep.search.simulate import percentile
from builder.sweep.space import Facts, Knob, Space

if TYPE_CHECKING:
    from builder.sweep.setting import Setting

CORES = 4
FACTS = Facts(cores=CORES, max_batch_sizes={"": 32})
SPACE = Space(
    (
        Knob("instance_group.count", (1, 2, 4)),
        Knob("parameters.intra_op_thread_count", (1, 2, 4)),
        Knob("dynamic_batching", (False, True)),
        Knob("max_batch_size", (4, 8, 32)),
        Knob("dynamic_batching.max_queue_delay_microseconds", (0, 1000, 5000)),
        Knob("dynamic_batching.preferred_batch_size", (None, (4,))),
    ),
    FACTS,
)
LOADS = tuple(Load(concurrency=each) for each in (1, 4, 8, 16, 32))
NAMES = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "mean_ms")


@dataclass
class Job:
    left: float  # ms of work on one thread's worth
    threads: int
    sent: list[tuple[float, int]]


@dataclass
class Oracle:
    """Measures like a bench. ``seed``: of the noise; ``noise`` of throughput (latency has twice as much)."""

    seed: int = 0
    noise: float = 0.015
    loaded: Setting | None = None
    calls: int = 0
    seconds: float = 0.0
    broken: dict[Setting, str] = field(default_factory=dict)

    def __call__(self, setting: Setting, load: Load, seconds: float) -> Point:
        cost = 0.4 + seconds + (1.9 if setting != self.loaded else 0.0)
        self.loaded, self.calls, self.seconds = setting, self.calls + 1, self.seconds + cost
        if setting in self.broken:
            return Point(setting, load, self.broken[setting], "as the test wants it", seconds=cost)  # type: ignore[arg-type]
        chance = random.Random(repr((self.seed, self.calls)))
        reading = Reading.of(setting, FACTS)
        crowded = 3.0 if reading.instances * reading.threads > CORES else 1.0
        noise = self.noise * crowded / math.sqrt(seconds / 1.5)
        figures = truth(setting, load)
        at = {name: figures[name] * math.exp(chance.gauss(0, noise * (2 if "ms" in name else 1))) for name in figures}
        wide = {name: math.exp(1.96 * noise * (2 if "ms" in name else 1)) for name in figures}
        intervals = {name: Interval(at[name], at[name] / wide[name], at[name] * wide[name]) for name in figures}
        return Point(setting, load, "stable", seconds=cost, requests=1000, **intervals)


@cache
def truth(setting: Setting, load: Load) -> dict[str, float]:
    """What it does without noise."""
    reading = Reading.of(setting, FACTS)
    rate, latencies = _run(reading, load, 250)
    figures = {name: percentile(latencies, float(name[1:-3])) for name in NAMES[:-1]}
    return {"throughput": rate, **figures, "mean_ms": sum(latencies) / len(latencies)}


def _work(items: int, length: int, threads: int) -> float:
    alone = 6.0 * length / 16
    return alone * (0.2 + 0.75 * items + 0.004 * items**2) / threads**0.8


def _run(reading: Reading, load: Load, requests: int) -> tuple[float, list[float]]:
    chance, scheduler, clients = random.Random(1), reading.scheduler, load.concurrency or 1
    arriving = [(index * 0.1, index * 0.1 - 0.3, _length(chance)) for index in range(clients)]
    queue: list[tuple[float, float, int]] = []
    running: list[Job] = []
    ended: list[tuple[float, float]] = []
    now = 0.0
    while len(ended) < requests:
        _start(queue, running, reading, now, chance)
        speed = _speed(running, scheduler.instances)
        steps = [job.left / speed for job in running] + [one[0] - now for one in arriving]
        if queue and len(running) < scheduler.instances:
            steps.append(max(queue[0][0] + scheduler.delay_ms - now, 0.0) + 1e-6)
        step = max(min(steps), 0.0)
        now += step
        for job in running:
            job.left -= step * speed
        for job in [job for job in running if job.left <= 1e-9]:
            running.remove(job)
            for place, (sent, _) in enumerate(job.sent):
                back = now + 0.15 + 0.08 * place
                ended.append((back, back - sent))
                arriving.append((back + 0.45 + 0.2 * chance.random(), back, _length(chance)))
        queue += sorted(one for one in arriving if one[0] <= now + 1e-9)
        arriving = [one for one in arriving if one[0] > now + 1e-9]
    counted = ended[requests // 4 :]
    seconds = (counted[-1][0] - counted[0][0]) / 1000
    return len(counted) / seconds, sorted(latency for _, latency in counted)


def _length(chance: random.Random) -> int:
    return chance.choice((16, 16, 16, 24))


def _speed(running: list[Job], instances: int) -> float:
    wanted = sum(job.threads for job in running) + 0.3
    memory = 1 / (1 + 0.06 * (len(running) - 1))
    return memory * min(1.0, (CORES / wanted) ** 1.5 if wanted > CORES + 0.3 else 1.0)


def _start(queue: list, running: list[Job], reading: Reading, now: float, chance: random.Random) -> None:
    scheduler = reading.scheduler
    while queue and len(running) < scheduler.instances:
        length = queue[0][2]
        alike = 0
        while alike < min(len(queue), scheduler.largest) and queue[alike][2] == length:
            alike += 1
        waited = now >= queue[0][0] + scheduler.delay_ms - 1e-9
        whole = alike == scheduler.largest or alike < len(queue)
        preferred = [size for size in scheduler.preferred if size <= alike]
        take = preferred[-1] if preferred and not waited else alike if whole or waited else 0
        if not take:
            return
        batch = [queue.pop(0) for _ in range(take)]
        spread = math.exp(chance.gauss(0, 0.05)) * (1.6 if chance.random() < 0.01 else 1.0)
        work = _work(take, length, reading.threads) * spread
        running.append(Job(work, reading.threads, [(sent, size) for _, sent, size in batch]))
