"""What the single requests of a point say together: windows, and intervals.

Everything here is pure and seeded: the same requests give the same figures. The way is
``requests → cut → windows → interval, disagreement, littles_law``. Whether one setting is better than another is said
by :mod:`builder.sweep.compare`.
"""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist, fmean, median, stdev
from typing import TYPE_CHECKING, Final

from builder.sweep.point import Interval, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.artifacts import Json
    from builder.sweep.load import Load

RULES: Final = 2
"""Of measuring: raised when the same requests would make another point. What was recorded under others is not found."""

MOST_WINDOWS: Final = 12
LEAST_WINDOWS: Final = 6
"""The range of six values holds their median with 1 - 2 / 2**6 = 97 %, that of five with 94 %: fewer say too little."""

_LEAST_TURNS: Final = 3  # of a run: with fewer, windows of parts of a turn tell more
LEAST_REQUESTS: Final = 4  # in a window, however few are in flight
MOST_SPREAD: Final = 0.1
"""Of a stable point: half the width of the throughput's interval, and the way from its first half to its second, as a
share of the throughput. perf_analyzer asks the same of its last three windows (``--stability-percentage``, 10)."""

CONFIDENCE: Final = 0.95
_STUDENT: Final = (12.706, 4.303, 3.182, 2.776)  # what CONFIDENCE is within, with 1 to 4 degrees of freedom
RESAMPLES: Final = 1000

_PERCENTILES: Final = {"p50_ms": 0.5, "p90_ms": 0.9, "p95_ms": 0.95, "p99_ms": 0.99}


def cut(requests: Sequence[tuple[float, float]], *, batch: int = 1, cycle: int = 1) -> tuple[Window, ...]:
    """Windows of about as many requests each, without the ramp-up and the drain.

    The ramp-up ends when as many requests were answered as were ever in flight at once; the drain begins when the last
    one is sent. Between them, a window reaches from one answer to another, so that counting whole requests does not
    blur the throughput; and its end is moved to a long pause nearby, so that no batch, whose answers come all at
    once, is torn in two. Where different requests are sent in turn, a window holds whole turns, if there are enough
    of them: else one would have the long texts, and another the short ones.

    Args:
        requests: when each was sent and answered, seconds; of one run.
        batch: items in a request.
        cycle: after how many requests they repeat.

    Returns:
        At most :data:`MOST_WINDOWS`; as few as none where there were too few requests.
    """
    ends = sorted((ended, sent) for sent, ended in requests)
    in_flight, last_sent = _most_in_flight(requests), max((sent for sent, _ in requests), default=0.0)
    steady = [one for one in ends[max(0, in_flight - 1) :] if one[0] <= last_sent]
    size = _size(len(steady) - 1, max(LEAST_REQUESTS, in_flight), cycle)
    count = (len(steady) - 1) // size
    if count < 1:
        return ()
    whole = size * count if size % cycle == 0 else len(steady) - 1
    stops = _stops([ended for ended, _ in steady[: whole + 1]], count, in_flight // 2)
    return tuple(_window(steady[a : b + 1], batch) for a, b in itertools.pairwise(stops) if steady[b][0] > steady[a][0])


def _size(available: int, least: int, cycle: int) -> int:
    """Requests in a window: whole turns of them, where there are some. A run that is too short is not the last one."""
    turns = math.ceil(least / cycle)
    if available // (turns * cycle) >= _LEAST_TURNS:
        return max(turns, math.ceil(available // cycle / MOST_WINDOWS)) * cycle
    return max(least, math.ceil(available / MOST_WINDOWS))


def _most_in_flight(requests: Sequence[tuple[float, float]]) -> int:
    steps = sorted([(sent, 1) for sent, _ in requests] + [(ended, -1) for _, ended in requests])
    return max(itertools.accumulate(step for _, step in steps), default=0)


def _stops(ends: list[float], count: int, reach: int) -> list[int]:
    """Indexes of the answers between the windows: evenly, but each before the nearest of the long pauses in reach."""
    last = len(ends) - 1
    pauses = [*(b - a for a, b in itertools.pairwise(ends)), 0.0]  # nobody knows that after the last one

    def moved(nominal: int) -> int:
        near = range(max(0, nominal - reach), min(last, nominal + reach) + 1)
        long = max(pauses[index] for index in near) / 2
        return min((index for index in near if pauses[index] >= long), key=lambda index: abs(index - nominal))

    return sorted({moved(round(part * last / count)) for part in range(count)} | {moved(last)})


def _window(answers: Sequence[tuple[float, float]], batch: int) -> Window:
    """The window that begins with the first answer, which is not its own."""
    seconds = answers[-1][0] - answers[0][0]
    latencies = tuple((ended - sent) * 1e3 for ended, sent in answers[1:])
    mean = sum(latencies) / len(latencies)
    return Window(seconds, len(latencies), len(latencies) * batch / seconds, mean, latencies)


def interval(windows: Sequence[Window], figure: str, *, seed: int = 0) -> Interval | None:
    """A figure and its 95 % interval, by bootstrap over the windows.

    The throughput is the median of the windows; a latency is taken over all requests of all windows. The tails are
    those of Hesterberg's *expanded percentile interval* (The American Statistician 69:4, 2015, section 3.3): the plain
    bootstrap's interval is too narrow by about a sixth where there are only six windows.

    Args:
        windows: of one point, with their latencies.
        figure: throughput, mean_ms, or p50_ms, p90_ms, p95_ms, p99_ms.
        seed: of the resampling.

    Returns:
        None where there are no windows. Of one window, the interval has no width: it says nothing.
    """
    import numpy as np

    if not windows:
        return None
    count = len(windows)
    rows = np.random.default_rng(seed).integers(0, count, size=(RESAMPLES, count))
    drawn = np.vstack([np.arange(count), rows])  # the first row is the windows as they are
    if figure == "throughput":
        values = np.median(np.array([window.throughput_per_second for window in windows])[drawn], axis=1)
    else:
        times = np.apply_along_axis(np.bincount, 1, drawn, minlength=count)  # how often each window was drawn
        values = _latencies(windows, figure, times)
    tail = _tail(count) if count > 1 else 0.0
    low, high = np.quantile(values[1:], [tail, 1 - tail])
    return Interval(float(values[0]), float(low), float(high))


def _tail(count: int) -> float:
    """What the bootstrap's interval leaves out on either side, so that it holds the value with the confidence."""
    return NormalDist().cdf(-((count / (count - 1)) ** 0.5) * student_t(count - 1))


def student_t(free: int) -> float:
    """So many standard errors an estimate is from the truth at most, with the confidence: Student's t.

    Args:
        free: degrees of freedom.
    """
    if free <= len(_STUDENT):
        return _STUDENT[free - 1]
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * free**3)
    # Abramowitz and Stegun, 26.7.5; within 0.2 % from five degrees of freedom on.
    return z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2) + third


def of_rounds(values: Sequence[float]) -> Interval | None:
    """A figure that is known of whole rounds alone, and its 95 % interval: their mean, by Student's t.

    Two or three rounds say little of how much rounds differ, so the interval is wide. Of one it has no width: it says
    nothing. No figure is below 0. None where there are no rounds.
    """
    if not values:
        return None
    mean, count = fmean(values), len(values)
    half = student_t(count - 1) * stdev(values) / math.sqrt(count) if count > 1 else 0.0
    return Interval(mean, max(0.0, mean - half), mean + half)


def _latencies(windows: Sequence[Window], figure: str, times: Json) -> Json:
    """A latency figure of each row of how often each window counts."""
    import numpy as np

    if figure == "mean_ms":
        sums, requests = (np.array(x) for x in zip(*((sum(w.latencies_ms), w.requests) for w in windows), strict=True))
        return (times @ sums) / (times @ requests)
    pooled = np.concatenate([window.latencies_ms for window in windows])
    by_size = np.argsort(pooled, kind="stable")
    window_of = np.repeat(np.arange(len(windows)), [len(window.latencies_ms) for window in windows])[by_size]
    values = pooled[by_size]
    found = []
    for row in times:  # one row at a time: a fast server answers ten thousand requests in a point
        below = np.cumsum(row[window_of])
        found.append(values[np.searchsorted(below, _PERCENTILES[figure] * below[-1])])
    return np.array(found)


def disagreement(windows: Sequence[Window]) -> str:
    """Why the windows of a point do not agree, for people; empty: they do, and the point is stable."""
    if len(windows) < LEAST_WINDOWS:
        answered = sum(window.requests for window in windows)
        return f"too few requests: {answered} make {len(windows)} windows, {LEAST_WINDOWS} are needed"
    found = interval(windows, "throughput")
    assert found is not None
    half = len(windows) // 2
    early, late = (median(one.throughput_per_second for one in part) for part in (windows[:half], windows[-half:]))
    if abs(late - early) > MOST_SPREAD * found.value:
        return f"the throughput drifts: {early:.4g}/s in the first half, {late:.4g}/s in the second"
    spread = (found.high - found.low) / 2 / found.value
    if spread > MOST_SPREAD:
        return f"the windows' throughput is known to ± {spread:.0%} only, {MOST_SPREAD:.0%} are allowed"
    return ""


def littles_law(windows: Sequence[Window], load: Load) -> float | None:
    """Requests in flight, as throughput and latency tell, by those that the load keeps in flight.

    1 where nothing is lost or counted twice (Little 1961, L = λ W). None in an open loop: nobody keeps their number.
    """
    seconds = sum(window.seconds for window in windows)
    if load.concurrency is None or not seconds:
        return None
    spent_seconds = sum(window.requests * window.mean_ms for window in windows) / 1e3
    return spent_seconds / seconds / load.concurrency
