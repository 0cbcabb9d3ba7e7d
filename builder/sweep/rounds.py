"""What several runs of a load say together: the figures of a point, and what they are worth."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Final

from builder.sweep import statistics
from builder.sweep.checked import Checked
from builder.sweep.point import Window
from builder.tools import hardware

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.sweep.load import Load
    from builder.sweep.point import Interval, Status
    from builder.tools.perf_requests import Printed, Sent

MOST_CLIENT: Final = 0.4
"""Share of the usable processors from which on the client is called the limit: together with what the server does for
each of its requests (receiving, answering), little is left that another setting could use."""

MOST_THREAD: Final = 0.9
"""Share of one processor from which on a thread of the client is called the limit: it cannot send any faster."""

MOST_MISSING: Final = 0.1
"""Open loop: share of requests that may be sent late, or not be answered as fast as they come."""

MOST_GROWTH: Final = 2.0
"""Open loop: how many times the latency of the first half of the windows that of the second half may be."""

LEAST_IN_FLIGHT: Final = 0.8
"""Closed loop: share of the requests that should be in flight, by Little's law, from which on they are."""

MOST_IN_FLIGHT: Final = 1.2
"""The same: more than were sent at once cannot be; somebody has counted wrong."""

_CHANCE: Final = 3.0  # standard deviations


@dataclass
class Rounds:
    """What the rounds of a point have brought so far.

    Args:
        load: what was sent.
        rows: how many different requests were sent, in turn.
        checks: whether answers were to be checked.
        spans: of each round whose requests are known, when the first was sent and the last answered, ns since the
            epoch.
    """

    load: Load
    rows: int = 1
    checks: bool = False
    windows: list[Window] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    requests: int = 0
    errors: int = 0
    checked: Checked = field(default_factory=Checked)
    _printed: list[Mapping[str, float]] = field(default_factory=list)  # latencies of rounds without single requests
    _following: int = 0  # answers, but for the first one of each round
    _following_seconds: float = 0.0  # from the first to the last of them
    _watched_seconds: float = 0.0
    _cpu_seconds: float = 0.0  # of the client
    _busiest_thread: float = 0.0
    _delayed: float = 0.0  # share

    def add(self, sent: Sent, checked: Checked) -> None:
        """Takes in one more run."""
        if sent.sent_ns:
            self._add_requests(sent)
        elif sent.printed is not None:
            self._add_printed(sent.printed)
        self._cpu_seconds += sent.client.cpu_seconds
        self._watched_seconds += sent.client.seconds
        self._busiest_thread = max(self._busiest_thread, sent.client.busiest_thread)
        self._delayed = max(self._delayed, sent.delayed_percent / 100)
        self.checked += checked

    def _add_requests(self, sent: Sent) -> None:
        start = min(sent.sent_ns)
        times = [((a - start) / 1e9, (b - start) / 1e9) for a, b in zip(sent.sent_ns, sent.ended_ns, strict=True)]
        cycle = self.rows // math.gcd(self.rows, self.load.batch)
        self.windows += statistics.cut(times, batch=self.load.batch, cycle=cycle)
        self.spans.append((start, max(sent.ended_ns)))
        self.requests += len(times)
        self.errors += sent.unanswered
        self._following += len(times) - 1
        self._following_seconds += (max(sent.ended_ns) - min(sent.ended_ns)) / 1e9

    def _add_printed(self, printed: Printed) -> None:
        """Where requests are not recorded: perf_analyzer's own windows, all of one length."""
        if not printed.windows:
            return
        seconds = printed.requests * self.load.batch / sum(throughput for throughput, _ in printed.windows)
        for throughput, mean_ms in printed.windows:
            self.windows.append(Window(seconds, round(throughput * seconds / self.load.batch), throughput, mean_ms))
        self.requests += printed.requests
        self._printed.append({**printed.latencies_ms, "mean_ms": median(mean for _, mean in printed.windows)})

    def latency(self, figure: str) -> Interval | None:
        """A latency and its interval; of rounds without single requests, as far as these rounds agree."""
        if not self._printed:
            return statistics.interval(self.windows, figure)
        return statistics.of_rounds([one[figure] for one in self._printed if figure in one])

    @property
    def client_share(self) -> float | None:
        """Of the usable processors, what the client took."""
        return self._cpu_seconds / self._watched_seconds / hardware.cpus() if self._watched_seconds else None

    @property
    def littles_law(self) -> float | None:
        """Of the requests that should be in flight, how many are; see :func:`.statistics.littles_law`."""
        return statistics.littles_law(self.windows, self.load)

    @property
    def is_hopeless(self) -> bool:
        """Whether another round would not make a stable point of it."""
        return bool(self.errors or self.checked.wrong or self._is_overloaded)

    @property
    def doubt(self) -> str:
        """Why the windows cannot be believed; empty: they can."""
        if self.load.rate is None:
            law = self.littles_law or 1.0
            many = f"more requests seem to be in flight than there are: {law:.2f} times as many"
            return statistics.disagreement(self.windows) or (many if law > MOST_IN_FLIGHT else "")
        # The throughput of an open loop is that of the arrivals, and differs as these do.
        if self._is_overloaded:
            late = f", and {self._delayed:.0%} of them were sent late" if self._delayed else ""
            return f"the server does not keep up with {self.load.rate:g} requests per second: {self._reached:.4g}{late}"
        if len(self.windows) < statistics.LEAST_WINDOWS:
            return f"too few requests: {self.requests} make {len(self.windows)} windows"
        half = len(self.windows) // 2
        early, late_ms = (median(one.mean_ms for one in part) for part in (self.windows[:half], self.windows[-half:]))
        grows = late_ms > MOST_GROWTH * early
        return f"the latency grows: {early:.4g} ms in the first half, {late_ms:.4g} ms in the second" if grows else ""

    @property
    def _reached(self) -> float:
        """Requests answered per second, from one answer to another: else the first one's latency would seem idle time.

        That is what the windows tell. A server that is far behind leaves none, as all is ramp-up and drain; then all
        answers count. As many as come, where nobody can tell.
        """
        seconds = sum(window.seconds for window in self.windows)
        if seconds:
            return sum(window.requests for window in self.windows) / seconds
        if self._following_seconds:
            return self._following / self._following_seconds
        return self.load.rate or 0.0

    @property
    def _is_overloaded(self) -> bool:
        """Open loop: whether the server answers fewer requests than come, beyond what chance brings."""
        if self.load.rate is None or not self.requests:
            return False
        chance = _CHANCE / self.requests**0.5 if self.load.arrivals == "poisson" else 0.0
        missing = MOST_MISSING + chance
        return self._delayed > MOST_MISSING or self._reached < self.load.rate * (1 - missing)

    def verdict(self) -> tuple[Status, str]:
        """What the figures are worth, and why: the gravest first. A stable point may have a remark."""
        if self.errors:
            return "failed", f"{self.errors} of {self.requests + self.errors} requests were not answered"
        if self.checked.wrong:
            told = self.checked
            return "failed", f"{told.wrong} of {told.checked} answers under load are wrong: {told.reason}"
        if limit := self._client_limit:
            return "saturated", limit
        if doubt := self.doubt:
            return "unstable", doubt
        unseen = self.checks and not self.checked.checked
        return "stable", "no answer was checked: none of them can be told from what is recorded" if unseen else ""

    @property
    def _client_limit(self) -> str:
        """Why the client is the limit; empty: it is not."""
        share, law, users = self.client_share, self.littles_law, self.load.concurrency
        if share is not None and share > MOST_CLIENT:
            return f"the client takes {share:.0%} of the processors, more than {MOST_CLIENT:.0%}"
        if self._busiest_thread > MOST_THREAD:
            return f"a thread of the client takes {self._busiest_thread:.0%} of a processor"
        if law is not None and users is not None and law < LEAST_IN_FLIGHT:
            return f"the client keeps only {law * users:.3g} of {users} requests in flight"
        return ""
