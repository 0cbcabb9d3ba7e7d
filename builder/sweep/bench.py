"""Measures settings of a subject on a running server: one setting under one load is one point."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from builder.core.store import NAME
from builder.core.workspace import workspace
from builder.errors import InternalError, ServerError
from builder.settings import settings
from builder.sweep import server_facts, statistics
from builder.sweep.answers import Checked, Checker
from builder.sweep.live import Live, RefusedError
from builder.sweep.point import Interval, Point, Window
from builder.sweep.setting import Setting
from builder.sweep.subject import variant
from builder.tools import hardware, perf_requests
from builder.tools import toolchain as toolchains
from builder.tools.perf_requests import Run, Traffic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from builder.artifacts import Json
    from builder.sweep.load import Load
    from builder.sweep.point import Status
    from builder.sweep.requests import Request
    from builder.sweep.subject import Subject
    from builder.tools.perf_requests import Sent
    from builder.tools.toolchain import Toolchain

log = logging.getLogger(__name__)

_WARM_CLIENTS: Final = 4
_ROUNDS: Final = 3  # a point that is not stable is measured for up to so many times as long
_MOST_WINDOW_SECONDS: Final = 10.0
_ASK_SECONDS: Final = 60.0
_CHANCE: Final = 3.0  # standard deviations

MOST_CLIENT: Final = 0.4
"""Share of the usable processors from which on the client is called the limit: together with what the server does for
each of its requests (receiving, answering), little is left that another setting could use."""
MOST_THREAD: Final = 0.9
"""Share of one processor from which on one thread of the client is called the limit: it cannot send any faster."""
MOST_DELAYED: Final = 0.1
"""Open loop: share of requests that may be sent late."""


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """How the bench measures.

    Args:
        checks: of how many requests of a round the answers are checked; 0: of none.
        rounds: a point that is not stable is measured for up to so many times as long.
    """

    checks: int = 64
    rounds: int = _ROUNDS


@dataclass
class _Rounds:
    """What the rounds of a point have brought so far."""

    windows: list[Window] = field(default_factory=list)
    printed: list[Mapping[str, float]] = field(default_factory=list)  # latencies of whole rounds, without requests
    requests: int = 0
    errors: int = 0
    checked: Checked = field(default_factory=Checked)
    cpu_seconds: float = 0.0
    seconds: float = 0.0  # in which the client was watched
    sending_seconds: float = 0.0  # from the first request to the last answer
    busiest_thread: float = 0.0
    delayed: float = 0.0  # share

    @property
    def reached(self) -> float:
        """Requests per second."""
        return self.requests / self.sending_seconds


class Bench:
    """One running server at a time. Use it as a context manager, or call :meth:`close`.

    Args:
        subject: what is measured.
        options: how.
    """

    def __init__(self, subject: Subject, options: BenchOptions = BenchOptions()) -> None:
        self.subject = subject
        self.options = options
        self._held = ExitStack()
        self._folder: Path | None = None
        self._tools: Toolchain | None = None
        self._variants: dict[Setting, Subject] = {Setting(): subject}
        self._checkers: dict[Setting, Checker] = {}
        self._live: Live | None = None
        self._built: Setting | None = None  # whose variant is served
        self._seconds_alone: float = 0.0  # of a request, when nothing else is asked

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the server and removes its files."""
        if self._live is not None:
            self._live.close()
            self._live = None
        self._held.close()
        self._folder = None

    @property
    def live(self) -> Live:
        """The server that runs."""
        if self._live is None:
            raise InternalError("bench: nothing has been applied")
        return self._live

    @property
    def _checker(self) -> Checker:
        assert self._built is not None
        return self._checkers[self._built]

    def apply(self, setting: Setting) -> None:
        """Has the server use a setting, and warms it up.

        Raises:
            RefusedError: the server does not take it; the message is its reason.
            UserError: a knob is unknown, or needs a build of what cannot be built.
            TritonsmithError: a build failed.
        """
        live = self._variant(setting.build)
        wanted = Setting(tuple(pair for pair in setting.values if not pair[0].startswith("@")))
        if live.runs and live.setting == wanted:
            return
        live.apply(wanted)
        try:
            checker = self._checkers.setdefault(setting.build, Checker(live.subject))
            checker.learn(self._ask)
            self._seconds_alone = self._warm_up()
        except ServerError:
            live.close()
            raise

    def measure(self, setting: Setting, load: Load, seconds: float = 1.5) -> Point:
        """Measures a setting under a load; its status says what the figures are worth.

        Args:
            setting: applied, if it is not.
            load: what is sent.
            seconds: for how long; where the windows do not agree, up to three times as long.

        Raises:
            UserError: a knob is unknown, or needs a build of what cannot be built.
            MachineError: perf_analyzer or the machine failed.
        """
        began = time.monotonic()
        point = self._measured(setting, load, seconds)
        return replace(point, seconds=time.monotonic() - began, at=datetime.now(UTC).isoformat(timespec="milliseconds"))

    def _measured(self, setting: Setting, load: Load, seconds: float) -> Point:
        try:
            self.apply(setting)
        except RefusedError as error:
            return Point(setting, load, "refused", error.message)
        except ServerError as error:
            return Point(setting, load, "failed", error.message)
        if load.batch > (largest := self._largest_batch()):
            return Point(setting, load, "refused", f"a request of {load.batch} is larger than max_batch_size {largest}")
        try:
            return self._under_load(setting, load, seconds)
        except ServerError as error:
            self.live.close()
            return Point(setting, load, "failed", error.message)

    def _largest_batch(self) -> int:
        return max(1, int(self.live.client.config(self.live.subject.name).get("max_batch_size", 0)))

    def _under_load(self, setting: Setting, load: Load, seconds: float) -> Point:
        before = self.live.statistics()
        so_far = _Rounds()
        for number in range(self.options.rounds):
            checked = Checked()
            if load.shared_memory and self.options.checks:
                sent, checked = self._beside(load, seconds)
            else:
                sent = self._send(load, seconds)
            if (problem := self._problem(sent, load)) is not None:
                if problem[0] == "unstable" and number + 1 < self.options.rounds:
                    continue  # the next round has windows of twice, three times the length
                errors = int(sent.status == "refused")
                return Point(setting, load, *problem, requests=so_far.requests, errors=so_far.errors + errors)
            if not load.shared_memory:  # what is printed of that is rubbish
                checked = self._checker.check(sent.answers, load.batch)
            _add(so_far, sent, checked, load)
            hopeless = so_far.errors or so_far.checked.wrong or _is_overloaded(so_far, load)
            if hopeless or not _doubt(so_far, load):
                break
        return self._point(setting, load, so_far, before)

    def _send(self, load: Load, seconds: float) -> Sent:
        live = self.live
        assert self._tools is not None
        assert self._folder is not None
        traffic = Traffic(
            load.concurrency, load.rate, load.arrivals == "poisson", load.batch, load.protocol == "http",
            load.shared_memory,
        )  # fmt: skip
        address = live.server.http_address if load.protocol == "http" else live.server.grpc_address
        run = Run(
            address,
            live.subject.name,
            live.subject.rows,
            traffic,
            self._long_enough(load, seconds),
            answers=self.options.checks,
        )
        place = self._folder / "perf"
        _remove(place)
        return perf_requests.send(self._tools, run, place, lambda: live.runs)

    def _beside(self, load: Load, seconds: float) -> tuple[Sent, Checked]:
        """Sends a load, of whose answers nothing can be read, and asks some requests beside it."""
        numbers = range(len(self.live.subject.requests))

        def ask() -> dict[int, dict[str, Any]]:
            answers = {}
            for number in numbers:
                time.sleep(seconds / len(numbers) / 2)
                answers[number] = self._ask(self.live.subject.requests[number])
            return answers

        with ThreadPoolExecutor(1) as client:
            asked = client.submit(ask)
            sent = self._send(load, seconds)
            return sent, self._checker.check_asked(asked.result())

    def _long_enough(self, load: Load, seconds: float) -> float:
        """In each of the program's windows a request must begin and end."""
        in_flight = load.concurrency or 1
        window = min(_MOST_WINDOW_SECONDS, 3 * self._seconds_alone * in_flight)
        return max(seconds, perf_requests.WINDOWS * window)

    def _problem(self, sent: Sent, load: Load) -> tuple[Status, str] | None:
        """Status and reason of a run that brought no figures."""
        if not self.live.runs:
            self.live.server.check()  # raises, with the last lines of its log
        if sent.status == "late":
            self.live.close()
            return "failed", f"the server does not answer any more; it was ended\n{sent.detail}"
        if sent.status == "nothing":
            return "unstable", "in some windows no request was answered"
        if sent.status == "cut" and not load.shared_memory:
            return "failed", "an answer under load holds NaN or an infinity: at such, perf_analyzer's record ends"
        return ("failed", sent.detail) if sent.status == "refused" else None

    def _point(self, setting: Setting, load: Load, so_far: _Rounds, before: Mapping[str, Mapping[str, Json]]) -> Point:
        live = self.live
        windows = so_far.windows
        share = so_far.cpu_seconds / so_far.seconds / hardware.cpus() if so_far.seconds else None
        status, reason = _verdict(so_far, load, share)
        after = live.statistics()
        steps = {
            model: times
            for model in after
            if model in before and (times := server_facts.step_times(before[model], after[model])) is not None
        }
        return Point(
            setting,
            load,
            status,
            reason,
            throughput=statistics.interval(windows, "throughput"),
            p50_ms=_latency(so_far, "p50_ms"),
            p90_ms=_latency(so_far, "p90_ms"),
            p95_ms=_latency(so_far, "p95_ms"),
            p99_ms=_latency(so_far, "p99_ms"),
            mean_ms=_latency(so_far, "mean_ms"),
            windows=tuple(windows),
            steps=steps,
            client_share=share,
            littles_law=statistics.littles_law(windows, load),
            memory_mb=server_facts.memory_mb(live.server.pid),
            gpu=server_facts.gpus(live.server.metrics_address),
            requests=so_far.requests,
            errors=so_far.errors,
            checked=so_far.checked.checked,
            wrong=so_far.checked.wrong,
        )

    def _variant(self, built: Setting) -> Live:
        """The server of a variant; only one runs at a time."""
        if self._folder is None:
            cache = settings().cache
            self._folder = self._held.enter_context(workspace(cache / NAME))
            self._tools = toolchains.install(cache)
        if self._live is None or self._built != built:
            if built not in self._variants:
                self._variants[built] = variant(self.subject, built)
            if self._live is not None:
                self._live.close()
            assert self._tools is not None
            place = self._folder / f"variant-{len(list(self._folder.iterdir()))}"
            place.mkdir()
            self._live = Live(self._variants[built], place, self._tools, settings().cache)
            self._built = built
        return self._live

    def _ask(self, request: Request) -> dict[str, Any]:
        """What the server answers to a request of one item; without the batch axis."""
        subject = self.live.subject
        batched = subject.max_batch_size > 0
        tensors = {name: array[None] if batched else array for name, array in request.tensors.items()}
        answer = self.live.client.infer(subject.name, tensors, timeout_seconds=_ASK_SECONDS)
        return {name: array[0] if batched else array for name, array in answer.items()}

    def _warm_up(self) -> float:
        """Asks every request once, some at the same time; then some alone: average seconds of these."""
        requests = self.live.subject.requests
        with ThreadPoolExecutor(_WARM_CLIENTS) as clients:
            list(clients.map(self._ask, requests))
        alone = requests[:_WARM_CLIENTS]
        began = time.monotonic()
        for request in alone:
            self._ask(request)
        return (time.monotonic() - began) / len(alone)


def _add(so_far: _Rounds, sent: Sent, checked: Checked, load: Load) -> None:
    if load.shared_memory:
        _add_printed(so_far, sent, load)
    else:
        start = min(sent.sent_ns, default=0)
        times = [((a - start) / 1e9, (b - start) / 1e9) for a, b in zip(sent.sent_ns, sent.ended_ns, strict=True)]
        so_far.windows += statistics.cut(times, batch=load.batch)
        so_far.requests += len(times)
        so_far.sending_seconds += max((b for _, b in times), default=0.0)
        so_far.errors += sent.unanswered
    so_far.cpu_seconds += sent.client.cpu_seconds
    so_far.seconds += sent.client.seconds
    so_far.busiest_thread = max(so_far.busiest_thread, sent.client.busiest_thread)
    so_far.delayed = max(so_far.delayed, sent.delayed_percent / 100)
    so_far.checked += checked


def _add_printed(so_far: _Rounds, sent: Sent, load: Load) -> None:
    """With shared memory: perf_analyzer's own windows, as its record of requests cannot be read."""
    assert sent.printed is not None
    requests = sent.printed.requests
    total = sum(throughput for throughput, _ in sent.printed.windows) / load.batch or 1.0
    for throughput, mean_ms in sent.printed.windows:
        seconds = requests / total
        so_far.windows.append(Window(seconds, round(throughput / load.batch * seconds), throughput, mean_ms))
        so_far.sending_seconds += seconds
    so_far.requests += requests
    so_far.printed.append(
        {**sent.printed.latencies_ms, "mean_ms": median(mean for _, mean in sent.printed.windows or [(0.0, 0.0)])}
    )


def _latency(so_far: _Rounds, figure: str) -> Interval | None:
    """A latency and its interval; of rounds without requests, the range of these rounds."""
    if not so_far.printed:
        return statistics.interval(so_far.windows, figure)
    found = [one[figure] for one in so_far.printed if figure in one]
    return Interval(median(found), min(found), max(found)) if found else None


def _doubt(so_far: _Rounds, load: Load) -> str:
    """Why the windows cannot be believed; empty: they can."""
    if load.rate is None:
        return statistics.disagreement(so_far.windows)
    return _backlog(so_far, load)


def _is_overloaded(so_far: _Rounds, load: Load) -> bool:
    """Open loop: whether the server answers fewer requests than come, beyond what chance brings."""
    if load.rate is None or not so_far.sending_seconds:
        return False
    missing = MOST_DELAYED + _CHANCE / so_far.requests**0.5  # arrivals of a Poisson process
    return so_far.delayed > MOST_DELAYED or so_far.reached < load.rate * (1 - missing)


def _backlog(so_far: _Rounds, load: Load) -> str:
    """Open loop: why the windows say nothing of its rate. Their throughput differs as the arrivals do."""
    if _is_overloaded(so_far, load):
        late = f", and {so_far.delayed:.0%} of them were sent late" if so_far.delayed else ""
        return f"the server does not keep up with {load.rate:g} requests per second: {so_far.reached:.4g} came{late}"
    few = len(so_far.windows) < statistics.LEAST_WINDOWS
    return f"too few requests: {so_far.requests} make {len(so_far.windows)} windows" if few else ""


def _verdict(so_far: _Rounds, load: Load, share: float | None) -> tuple[Status, str]:
    """What the figures are worth, and why: the gravest first."""
    if so_far.errors:
        return "failed", f"{so_far.errors} of {so_far.requests + so_far.errors} requests were not answered"
    if so_far.checked.wrong:
        told = so_far.checked
        return "failed", f"{told.wrong} of {told.checked} answers under load are wrong: {told.reason}"
    if share is not None and share > MOST_CLIENT:
        return "saturated", f"the client takes {share:.0%} of the processors, more than {MOST_CLIENT:.0%}"
    if so_far.busiest_thread > MOST_THREAD:
        return "saturated", f"a thread of the client takes {so_far.busiest_thread:.0%} of a processor"
    doubt = _doubt(so_far, load)
    return ("unstable", doubt) if doubt else ("stable", "")


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
