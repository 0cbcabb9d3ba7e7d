"""Results of sweeps that nobody measured: plausible ones, of a simple model of a server with two cores."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING

from builder.sweep.load import Load
from builder.sweep.point import Interval, Point, StepTimes, Window
from builder.sweep.setting import Setting
from builder.sweep.swept import Aim, Served, Step, Swept, Tried, Verdict
from builder.tools.hardware import Gpu, Hardware

if TYPE_CHECKING:
    from builder.sweep.setting import Value

INSTANCES = "instance_group.count"
THREADS = "parameters.intra_op_thread_count"
BATCH = "max_batch_size"
DELAY = "dynamic_batching.max_queue_delay_microseconds"
TOKENIZERS = "tokenize:instance_group.count"

KNOBS: dict[str, tuple[Value, ...]] = {
    INSTANCES: (1, 2),
    THREADS: (1, 2),
    BATCH: (1, 8, 32),
    DELAY: (None, 100, 1000),
    TOKENIZERS: (1, 2),
    "instance_group.kind": ("KIND_CPU",),
}
P99_BOUND = 60.0
CORES = 2.0


def swept(*, count: int = 60, gpu: bool = False, name: str = "minilm-embedder", seed: int = 7) -> Swept:
    """A sweep of ``count`` points. Some are unstable, some failed, some break the bound of the p99."""
    chance = random.Random(seed)
    settings = itertools.cycle(_settings())
    points = [_point(next(settings), chance, gpu=gpu) for _ in range(count)]
    for at, (status, reason) in _BAD.items():
        if at < count - 1:
            points[at] = _spoilt(points[at], status, reason)
    tried = tuple(_tried(at, point) for at, point in enumerate(points))
    pooled = {one.what: one for one in tried if one.score is not None}
    order = {"met": 0, "unsure": 1, "missed": 2}
    ranking = sorted(pooled.values(), key=lambda one: (order[one.verdict], -(one.score or 0.0)))
    return Swept(
        served=_served(name),
        hardware=Hardware("AMD EPYC 9R14", 4, 2, CORES, 8 << 30, (_GPU,) if gpu else (), "x86_64", "6.1.0-41-amd64"),
        versions={"tritonserver": "2.51.0", "perf_analyzer": "2.51.0", "tritonsmith": "0.7.0"},
        method={
            "Client": "perf_analyzer on the same machine as the server, gRPC",
            "Windows": "3 of 0.5 s each, after a warm-up of 0.5 s; up to 9 where they do not agree",
            "Texts": "log-normal lengths, median 24 tokens, 256 at most (256 texts)",
            "Intervals": "95 %, bootstrap over the windows",
            "Answers": "every answer is compared with the expected one (cosine ≥ 0.999)",
        },
        knobs=KNOBS,
        aim=Aim({"throughput": 1.0}, price_per_hour=0.526),
        constraints={"p99_ms": P99_BOUND, "error_rate": 0.0},
        tried=tried,
        ranking=tuple(ranking),
        as_it_is=tried[0],
        verdicts=(
            Verdict("throughput", "better", Interval(66.8, 65.9, 67.7), Interval(128.4, 126.9, 129.7)),
            Verdict("p99_ms", "same", Interval(41.3, 38.8, 44.0), Interval(40.6, 37.7, 43.1)),
        ),
        ended="no setting that is left can beat the best by more than the noise",
        candidates=168,
        seconds=sum(one.point.seconds for one in tried) + 6.2,
        at="2026-11-20T15:40:12Z",
    )


_GPU = Gpu("NVIDIA L4", "8.9", 23034, "570.86.15")
_BAD = {
    11: ("unstable", "three windows of 1.5 s differ by 31 %, after 4.5 s as well"),
    17: ("failed", "3 of 212 requests failed: [StatusCode.UNAVAILABLE] the queue is full"),
    23: ("unstable", "perf_analyzer wrote no figures: no window was stable"),
    31: ("saturated", "the client used 97 % of its processors"),
    38: ("refused", "the server did not load it: max_batch_size 32 is more than the warm-up's 8"),
    44: ("unstable", "three windows of 1.5 s differ by 24 %, after 4.5 s as well"),
    52: ("failed", "1 of 40 checked answers is wrong: cosine 0.71"),
}


def _served(name: str) -> Served:
    steps = (Step("tokenize", f"{name}-tokenize"), Step("", f"{name}-model"))
    return Served(name, "recipe", "recipes/minilm-embedder.yaml", "5f3a" * 16, "cpu", steps)


def _settings() -> list[tuple[Setting, Load]]:
    found = []
    for instances, threads, (batch, delay), tokenizers in itertools.product(
        (1, 2), (1, 2), ((1, None), (8, None), (8, 100), (8, 1000), (32, None), (32, 100), (32, 1000)), (1, 2)
    ):
        values: dict[str, Value] = {INSTANCES: instances, THREADS: threads, BATCH: batch, TOKENIZERS: tokenizers}
        values |= {DELAY: delay} if batch > 1 else {}
        concurrency = (1, 2, 4, 8, 16)[len(found) % 5]
        found.append((Setting.of(values | {"instance_group.kind": "KIND_CPU"}), Load(concurrency=concurrency)))
    asks = [(setting, Load(concurrency=4)) for setting, _ in found[::3]]
    return [*found, *asks]


def _point(asked: tuple[Setting, Load], chance: random.Random, *, gpu: bool) -> Point:
    setting, load = asked
    values = setting.as_dict()
    instances, threads, batch = (int(str(values[knob])) for knob in (INSTANCES, THREADS, BATCH))
    users = load.concurrency or 1
    oversubscribed = max(1.0, instances * threads / CORES) ** 1.4
    compute_ms = 15.2 / threads**0.85 * oversubscribed * (1.0 if batch == 1 else 1.04)
    waits_ms = float(str(values.get(DELAY) or 0)) / 1000
    tokenizer_ms = 0.9
    overhead_ms = 0.6
    alone_ms = compute_ms + waits_ms + tokenizer_ms + overhead_ms
    throughput = min(users / alone_ms, instances / compute_ms) * 1000 * chance.uniform(0.985, 1.015)
    mean_ms = users / throughput * 1000
    windows = tuple(_window(throughput, mean_ms, batch, chance) for _ in range(3))
    latencies = sorted(one for window in windows for one in window.latencies_ms)
    inferences = len(latencies)
    executions = math.ceil(inferences / (1 if batch == 1 else min(batch, max(1.0, users / 4))))
    model = StepTimes(inferences, executions, max(0.05, mean_ms - alone_ms), 0.12, compute_ms, 0.08)
    tokenizer = StepTimes(inferences, inferences, 0.04, 0.06, tokenizer_ms, 0.03)
    return Point(
        setting,
        load,
        "stable",
        throughput=_interval(throughput, 0.012, chance),
        mean_ms=_interval(mean_ms, 0.012, chance),
        p50_ms=_interval(_at(latencies, 0.5), 0.01, chance),
        p90_ms=_interval(_at(latencies, 0.9), 0.02, chance),
        p95_ms=_interval(_at(latencies, 0.95), 0.03, chance),
        p99_ms=_interval(_at(latencies, 0.99), 0.06, chance),
        windows=windows,
        steps={"minilm-embedder-tokenize": tokenizer, "minilm-embedder-model": model},
        client_share=0.04 + throughput / 4000,
        server_share=min(1.0, 0.1 + throughput / 200),
        littles_law=chance.uniform(0.985, 1.0),
        memory_mb=310 + 96 * instances + 22 * int(str(values[TOKENIZERS])) + chance.uniform(-3, 3),
        gpu={"0": {"memory_mb": 1200.0 + 410 * instances, "utilisation": min(1.0, throughput / 140)}} if gpu else {},
        requests=inferences,
        checked=inferences,
        seconds=chance.uniform(2.1, 4.4),
        at="2026-11-20T15:38:00Z",
    )


def _window(throughput: float, mean_ms: float, batch: int, chance: random.Random) -> Window:
    spread = 0.06 if batch == 1 else 0.16
    rate = throughput * chance.uniform(0.985, 1.015)
    requests = max(2, round(rate * 0.5))
    latencies = tuple(mean_ms * math.exp(chance.gauss(-spread * spread / 2, spread)) for _ in range(requests))
    return Window(0.5, requests, rate, sum(latencies) / requests, latencies)


def _spoilt(point: Point, status: str, reason: str) -> Point:
    changed = replace(point, status=status, reason=reason)  # type: ignore[arg-type]
    if status == "failed":
        return replace(changed, errors=3)
    if status == "refused":
        return Point(point.setting, point.load, "refused", reason, seconds=point.seconds)
    return changed


def _tried(at: int, point: Point) -> Tried:
    why = ("starts the model of the server", "may beat the best", "the model is least sure of it")[min(at // 6, 2)]
    if point.status != "stable" or point.p99_ms is None or point.throughput is None:
        return Tried.of(point, "unsure", None, why)
    missed, sure = point.p99_ms.value > P99_BOUND, point.p99_ms.high <= P99_BOUND
    return Tried.of(point, "missed" if missed else "met" if sure else "unsure", math.log(point.throughput.value), why)


def _interval(value: float, share: float, chance: random.Random) -> Interval:
    return Interval(
        value, value * (1 - share * chance.uniform(0.5, 1.5)), value * (1 + share * chance.uniform(0.5, 1.5))
    )


def _at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
