"""What several runs of a load say together: the figures of a point, and what they are worth."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Final

from builder.sweep import statistics
from builder.sweep.answers import Checked
from builder.sweep.point import Interval, Window
from builder.tools import hardware

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.sweep.load import Load
    from builder.sweep.point import Status
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

_CHANCE: Final = 3.0  # standard deviations


@dataclass
class Rounds:
    """What the rounds of a point have brought so far.

    Args:
        load: what was sent.
        rows: how many different requests were sent, in turn.
    """

    load: Load
    rows: int = 1
    windows: list[Window] = field(default_factory=list)
    requests: int = 0
    errors: int = 0
    checked: Checked = field(default_factory=Checked)
    _printed: list[Mapping[str, float]] = field(default_factory=list)  # latencies of rounds without single requests
    _sending_seconds: float = 0.0
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
        self.requests += len(times)
        self.errors += sent.unanswered
        self._sending_seconds += max(ended for _, ended in times)

    def _add_printed(self, printed: Printed) -> None:
        """Where requests are not recorded: perf_analyzer's own windows, all of one length."""
        if not printed.windows:
            return
        seconds = printed.requests * self.load.batch / sum(throughput for throughput, _ in printed.windows)
        for throughput, mean_ms in printed.windows:
            self.windows.append(Window(seconds, round(throughput * seconds / self.load.batch), throughput, mean_ms))
            self._sending_seconds += seconds
        self.requests += printed.requests
        self._printed.append({**printed.latencies_ms, "mean_ms": median(mean for _, mean in printed.windows)})

    def latency(self, figure: str) -> Interval | None:
        """A latency and its interval; of rounds without single requests, the range of these rounds."""
        if not self._printed:
            return statistics.interval(self.windows, figure)
        found = [one[figure] for one in self._printed if figure in one]
        return Interval(median(found), min(found), max(found)) if found else None

    @property
    def client_share(self) -> float | None:
        """Of the usable processors, what the client took."""
        return self._cpu_seconds / self._watched_seconds / hardware.cpus() if self._watched_seconds else None

    @property
    def is_hopeless(self) -> bool:
        """Whether another round would not make a stable point of it."""
        return bool(self.errors or self.checked.wrong or self._is_overloaded)

    @property
    def doubt(self) -> str:
        """Why the windows cannot be believed; empty: they can."""
        if self.load.rate is None:
            return statistics.disagreement(self.windows)
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
        """Requests per second."""
        return self.requests / self._sending_seconds

    @property
    def _is_overloaded(self) -> bool:
        """Open loop: whether the server answers fewer requests than come, beyond what chance brings."""
        if self.load.rate is None or not self.requests:
            return False
        chance = _CHANCE / self.requests**0.5 if self.load.arrivals == "poisson" else 0.0
        missing = MOST_MISSING + chance
        return self._delayed > MOST_MISSING or self._reached < self.load.rate * (1 - missing)

    def verdict(self) -> tuple[Status, str]:
        """What the figures are worth, and why: the gravest first."""
        share = self.client_share
        if self.errors:
            return "failed", f"{self.errors} of {self.requests + self.errors} requests were not answered"
        if self.checked.wrong:
            told = self.checked
            return "failed", f"{told.wrong} of {told.checked} answers under load are wrong: {told.reason}"
        if share is not None and share > MOST_CLIENT:
            return "saturated", f"the client takes {share:.0%} of the processors, more than {MOST_CLIENT:.0%}"
        if self._busiest_thread > MOST_THREAD:
            return "saturated", f"a thread of the client takes {self._busiest_thread:.0%} of a processor"
        doubt = self.doubt
        return ("unstable", doubt) if doubt else ("stable", "")
