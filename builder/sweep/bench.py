"""Measures settings of a subject on a running server: one setting under one load is one point."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from builder.core.store import NAME
from builder.core.workspace import workspace
from builder.errors import BlockedError, GateError, InternalError, MachineError, ModelError, ServerError
from builder.settings import settings
from builder.sweep import server_facts, statistics
from builder.sweep.answers import Checker
from builder.sweep.live import Live, RefusedError
from builder.sweep.point import Point
from builder.sweep.rounds import Rounds
from builder.sweep.sending import Sender
from builder.sweep.subject import variant
from builder.tools import toolchain as toolchains

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from builder.artifacts import Json
    from builder.sweep.load import Load
    from builder.sweep.point import Status, StepTimes
    from builder.sweep.setting import Setting
    from builder.sweep.subject import Subject
    from builder.tools.perf_requests import Sent

log = logging.getLogger(__name__)

_DEATH_SECONDS: Final = 0.5  # how long a server that broke a connection may take to be seen as dead


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """How the bench measures.

    Args:
        checks: of how many requests of a round the answers are checked; 0: of none.
        rounds: a point that is not stable is measured for up to so many times as long.
    """

    checks: int = 64
    rounds: int = 3


@dataclass(frozen=True, slots=True)
class _Before:
    """What a server said of itself, and had used, before a load."""

    statistics: Mapping[str, Mapping[str, Json]]  # by model
    processor_seconds: float

    def steps(self, after: Mapping[str, Mapping[str, Json]]) -> dict[str, StepTimes]:
        """Where the time went since, by model."""
        times = {model: server_facts.step_times(self.statistics.get(model, {}), one) for model, one in after.items()}
        return {model: one for model, one in times.items() if one is not None}

    def share(self, live: Live, after: Mapping[str, Mapping[str, Json]], per_second: float) -> float | None:
        """Of the processors, what the server takes at so many requests a second."""
        name = live.subject.name
        answered = server_facts.answered(self.statistics.get(name, {}), after.get(name, {}))
        used = server_facts.processor_seconds(live.server.pid) - self.processor_seconds
        return server_facts.processor_share(used, answered, per_second)


class Bench:
    """One running server at a time. Use it as a context manager, or call :meth:`close`.

    A build's knobs (``@precision``) make a variant of the subject, which is built once and then kept: the server is
    another one, so that changing them costs a start.

    Args:
        subject: what is measured.
        options: how.
    """

    def __init__(self, subject: Subject, options: BenchOptions = BenchOptions()) -> None:
        self.subject = subject
        self.options = options
        self._held = ExitStack()
        self._folder: Path | None = None
        self._variants: dict[Setting, Subject | RefusedError] = {}  # by the knobs that need a build
        self._senders: dict[Setting, Sender] = {}  # of each variant
        self._sender: Sender | None = None  # whose server runs

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the server and removes its files."""
        if self._sender is not None:
            self._sender.live.close()
        self._sender, self._senders, self._variants, self._folder = None, {}, {}, None
        self._held.close()

    @property
    def live(self) -> Live:
        """The server that runs, or ran last."""
        if self._sender is None:
            raise InternalError("bench: nothing has been applied")
        return self._sender.live

    def variant(self, setting: Setting) -> Subject:
        """The subject, built with the knobs of a setting that need a build; once.

        Raises:
            RefusedError: it cannot be built.
            UserError: a knob is unknown, or the subject is no recipe.
        """
        built = setting.build
        if built not in self._variants:
            try:
                self._variants[built] = variant(self.subject, built)
            except (BlockedError, GateError, MachineError, ModelError) as error:
                self._variants[built] = RefusedError(f"it cannot be built: {error.message}")
        found = self._variants[built]
        if isinstance(found, RefusedError):
            raise found
        return found

    def apply(self, setting: Setting) -> None:
        """Has the server use a setting, and warms it up.

        Raises:
            RefusedError: the server does not take it, or it cannot be built; the message is the reason.
            UserError: a knob is unknown, or needs a build and the subject is no recipe.
        """
        sender = self._served(setting.build)
        if sender.live.runs and sender.live.setting == setting.served:
            return
        sender.live.apply(setting.served)
        try:
            sender.warm_up()
        except ServerError:
            sender.live.close()
            raise

    def measure(self, setting: Setting, load: Load, seconds: float = 1.5) -> Point:
        """Measures a setting under a load; its status says what the figures are worth.

        Args:
            setting: applied, if it is not.
            load: what is sent.
            seconds: for how long; where the windows do not agree, up to three times as long.

        Raises:
            UserError: a knob is unknown, or needs a build and the subject is no recipe.
            MachineError: perf_analyzer or the machine failed.
        """
        began = time.monotonic()
        try:
            self.apply(setting)
            point = self._under_load(setting, load, seconds)
        except RefusedError as error:
            point = Point(setting, load, "refused", error.message)
        except ServerError as error:
            self.live.close()
            point = Point(setting, load, "failed", error.message)
        log.debug("%s, %s: %s %s", setting.label, load.label, point.status, point.reason)
        return replace(point, seconds=time.monotonic() - began, at=datetime.now(UTC).isoformat(timespec="milliseconds"))

    def _under_load(self, setting: Setting, load: Load, seconds: float) -> Point:
        largest = max(1, int(self.live.client.config(self.live.subject.name).get("max_batch_size", 0)))
        if load.batch > largest:
            return Point(setting, load, "refused", f"a request of {load.batch} is larger than max_batch_size {largest}")
        so_far = Rounds(load, len(self.live.subject.requests), checks=self.options.checks > 0)
        before = _Before(self.live.statistics(), server_facts.processor_seconds(self.live.server.pid))
        with server_facts.GpuWatch(self.live.server.metrics_address) as gpus:
            if (problem := self._measured(so_far, seconds)) is not None:
                return Point(setting, load, *problem, requests=so_far.requests, errors=so_far.errors)
        return self._point(setting, so_far, before, gpus.during(so_far.spans))

    def _measured(self, so_far: Rounds, seconds: float) -> tuple[Status, str] | None:
        """Sends a load until its rounds are believed, or hopeless; status and reason where one brought no figures."""
        assert self._sender is not None
        stretch = 1
        for number in range(self.options.rounds):
            sent, checked = self._sender.send(so_far.load, seconds * stretch)
            if (problem := self._problem(sent)) is None:
                so_far.add(sent, checked)
                if so_far.is_hopeless or not so_far.doubt:
                    break
            elif problem[0] == "unstable" and number + 1 < self.options.rounds:
                stretch += 1  # a request takes longer than a window
            else:
                so_far.errors += int(sent.status == "refused")
                return problem
        return None

    def _problem(self, sent: Sent) -> tuple[Status, str] | None:
        """Status and reason of a run that brought no figures.

        Raises:
            ServerError: the server has ended.
        """
        if sent.status == "refused":
            self.live.server.process.wait(_DEATH_SECONDS)
        self.live.server.check()
        if sent.status == "late":
            self.live.close()
            return "failed", f"the server does not answer any more; it was ended\n{sent.detail}"
        if sent.status == "nothing":
            return "unstable", "in some windows no request was answered"
        if sent.status == "cut":
            return "failed", "an answer under load holds NaN or an infinity: at such, perf_analyzer's record ends"
        return ("failed", sent.detail) if sent.status == "refused" else None

    def _point(self, setting: Setting, so_far: Rounds, before: _Before, gpus: dict[str, dict[str, float]]) -> Point:
        live, windows = self.live, so_far.windows
        status, reason = so_far.verdict()
        throughput, after = statistics.interval(windows, "throughput"), live.statistics()
        steps = before.steps(after)
        if status == "stable":
            remarks = (reason, server_facts.cache_remark(steps, len(live.subject.requests)))
            reason = "; ".join(filter(None, remarks))
        return Point(
            setting,
            so_far.load,
            status,
            reason,
            throughput=throughput,
            p50_ms=so_far.latency("p50_ms"),
            p90_ms=so_far.latency("p90_ms"),
            p95_ms=so_far.latency("p95_ms"),
            p99_ms=so_far.latency("p99_ms"),
            mean_ms=so_far.latency("mean_ms"),
            windows=tuple(windows),
            steps=steps,
            client_share=so_far.client_share,
            server_share=before.share(live, after, throughput.value / so_far.load.batch) if throughput else None,
            littles_law=so_far.littles_law,
            memory_mb=server_facts.memory_mb(live.server.pid),
            gpu=gpus,
            requests=so_far.requests,
            errors=so_far.errors,
            checked=so_far.checked.checked,
            wrong=so_far.checked.wrong,
        )

    def _served(self, built: Setting) -> Sender:
        """Who asks a variant; the server of another one is ended."""
        if built not in self._senders:
            self._senders[built] = self._made(built)
        sender = self._senders[built]
        if self._sender is not None and self._sender is not sender:
            self._sender.live.close()
        self._sender = sender
        return sender

    def _made(self, built: Setting) -> Sender:
        cache, subject = settings().cache, self.variant(built)
        for known in self._senders.values():
            if known.live.subject.digest == subject.digest:
                return known  # what was asked for is what it is anyway
        tools = toolchains.install(cache)
        if self._folder is None:
            self._folder = self._held.enter_context(workspace(cache / NAME))
        folder = self._folder / f"variant-{len(self._senders)}"
        folder.mkdir()
        live = Live(subject, folder, tools, cache)
        return Sender(live, tools, folder / "perf", Checker(subject), self.options.checks)
