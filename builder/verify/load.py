"""How fast: perf_analyzer with real texts, at each concurrency of the recipe."""

from __future__ import annotations

import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from builder.artifacts import Sample
from builder.tools import perf_analyzer
from builder.tools.perf_analyzer import Point, Windows
from builder.tools.tensors import array_of
from builder.verify.rows import row_of, size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.artifacts import Json, Row
    from builder.tools.perf_analyzer import Value
    from builder.tools.toolchain import Toolchain
    from builder.verify.ask import Asker

log = logging.getLogger(__name__)

REQUESTS: Final = 16  # different texts: few enough that each window sees all of them, many enough to be a mixture
_WARM_CLIENTS: Final = 4
_LONGEST_WINDOW_MILLISECONDS: Final = 10_000


def typical(samples: Sequence[Sample | Row], count: int = REQUESTS) -> tuple[Sample | Row, ...]:
    """Samples that stand for all of them: evenly spaced by length, short and long in turn.

    A window in which perf_analyzer sees other texts than in the next one is not comparable to it, so the texts must
    come round several times in each window.
    """
    by_length = sorted(samples, key=size)
    count = min(count, len(by_length))
    chosen = [by_length[int((index + 0.5) * len(by_length) / count)] for index in range(count)]
    return tuple(chosen[index // 2 if index % 2 == 0 else -1 - index // 2] for index in range(count))


def describe_load(load: Sequence[Sample | Row]) -> dict[str, float]:
    """What perf_analyzer sends, for the record: figures of speed mean nothing without it."""
    lengths = [size(sample) for sample in load]
    if isinstance(load[0], Sample) and load[0].image_base64 is not None:
        return {"images": len(load), "mean_bytes": round(sum(lengths) / len(load), 1), "max_bytes": max(lengths)}
    return {"texts": len(load), "mean_characters": round(sum(lengths) / len(load), 1), "max_characters": max(lengths)}


def sweep(
    asker: Asker, toolchain: Toolchain, concurrency: Sequence[int], folder: Path, windows: Windows | None = None
) -> tuple[Point, ...]:
    """Measures the served model at each concurrency.

    Args:
        asker: who reaches the served model; its samples are the load.
        toolchain: whose perf_analyzer is run.
        concurrency: requests in flight, one measurement each.
        folder: where perf_analyzer's files are kept.
        windows: how long each measurement takes; default: chosen by the model's own speed.

    Returns:
        One point for each concurrency, in order; an unstable or failed one says so.

    Raises:
        ServerError: the server ended.
        MachineError: perf_analyzer cannot be run.
    """
    load = typical(asker.samples)
    seconds = warm_up(asker, load)
    points = []
    for level in concurrency:
        log.info("measuring at concurrency %d", level)
        chosen = windows or fitting_windows(seconds, level)
        point = _measure(asker, toolchain, load, level, folder / f"concurrency-{level}", chosen)
        if point.status == "unstable":
            # Something else had its turn on the machine, most likely: once more, and then it is what it is.
            log.info("%s; measuring again", describe(point))
            point = _measure(asker, toolchain, load, level, folder / f"concurrency-{level}-again", chosen)
        log.info("%s", describe(point))
        points.append(point)
    return tuple(points)


def _measure(
    asker: Asker, toolchain: Toolchain, load: Sequence[Sample | Row], level: int, folder: Path, windows: Windows
) -> Point:
    point = perf_analyzer.measure(
        toolchain,
        address=asker.server.grpc_address,
        model=asker.model,
        rows=[_request(asker, sample) for sample in load],
        concurrency=level,
        folder=folder,
        windows=windows,
    )
    if point.status != "stable":
        asker.check_server()
    return point


def warm_up(asker: Asker, load: Sequence[Sample | Row]) -> float:
    """Asks every text of the load once, some at the same time, then once more, one after the other.

    Returns:
        Average seconds per request, of the second round.

    Raises:
        ServerError: the server refused a request.
    """
    from dataclasses import replace

    warm = replace(asker, samples=tuple(load))
    with ThreadPoolExecutor(_WARM_CLIENTS) as clients:
        list(clients.map(warm.ask, [(index,) for index in range(len(load))]))
    began = time.monotonic()
    for index in range(len(load)):
        warm.ask((index,))
    return (time.monotonic() - began) / len(load)


def fitting_windows(seconds: float, concurrency: int) -> Windows:
    """Windows in which a model that needs ``seconds`` per request answers each of the texts at least once or twice.

    Clients that wait for one another answer no more per second than one client alone, so the length does not depend on
    the concurrency, except that each client must get some answers.
    """
    requests = max(1.5 * REQUESTS, 3 * concurrency)
    milliseconds = math.ceil(seconds * requests * 10) * 100
    default = Windows()
    return Windows(
        interval_milliseconds=min(max(default.interval_milliseconds, milliseconds), _LONGEST_WINDOW_MILLISECONDS),
        trials=default.trials,
        stability_percent=default.stability_percent,
    )


def describe(point: Point) -> str:
    """A line for the user."""
    if point.status == "stable":
        return (
            f"concurrency {point.concurrency}: {point.throughput_per_second:.1f} per second, "
            f"p50 {point.p50_ms:.1f} ms, p95 {point.p95_ms:.1f} ms, p99 {point.p99_ms:.1f} ms"
        )
    if point.status == "unstable" and point.windows_per_second:
        low, high = min(point.windows_per_second), max(point.windows_per_second)
        return f"concurrency {point.concurrency}: unstable, between {low:.1f} and {high:.1f} per second"
    reason = point.detail.splitlines()[-1] if point.detail else "no reason given"
    return f"concurrency {point.concurrency}: {point.status}: {reason}"


def _request(asker: Asker, sample: Sample | Row) -> dict[str, Value]:
    """A request as perf_analyzer is told of it: texts as such, other tensors as arrays."""
    row = row_of(sample, text_pair=asker.text_pair)
    return {name: as_sent(value, asker.dtypes.get(name, "BYTES")) for name, value in row.items()}


def as_sent(value: Json, dtype: str) -> Value:
    """A tensor of a sample as perf_analyzer is told of it: a text as such, anything else as bytes or an array."""
    if isinstance(value, str):
        return value
    array = array_of(value, dtype)
    return bytes(array[0]) if dtype == "BYTES" and len(array) == 1 else array
