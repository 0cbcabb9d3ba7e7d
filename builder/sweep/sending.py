"""Sends a load to a running server and checks what comes back."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from builder.sweep.answers import Checked
from builder.tools import perf_requests
from builder.tools.perf_requests import Run, Traffic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.sweep.answers import Checker
    from builder.sweep.live import Live
    from builder.sweep.load import Load
    from builder.sweep.requests import Request
    from builder.tools.perf_requests import Sent
    from builder.tools.toolchain import Toolchain

_WARM_CLIENTS: Final = 4
_MOST_WINDOW_SECONDS: Final = 10.0
_ASK_SECONDS: Final = 60.0
_MOST_RECORDED: Final = 256 << 20  # characters of perf_analyzer's record of all requests
_DIGITS: Final = 20  # of a number in it


@dataclass
class Sender:
    """Who asks a served subject.

    Args:
        live: the server.
        tools: whose perf_analyzer is run.
        folder: where its files go; it is emptied each time.
        checker: what is expected.
        checks: of how many requests of a run the answers are checked; 0: of none.
    """

    live: Live
    tools: Toolchain
    folder: Path
    checker: Checker
    checks: int
    _seconds_alone: float = field(default=0.0, init=False)
    _characters: int = field(default=0, init=False)  # of a request and its answer in perf_analyzer's record, at most

    def warm_up(self) -> None:
        """Asks every request once, some at the same time; then some alone, to know how long that takes.

        Raises:
            ServerError: the server refused one, or did not answer.
        """
        self.checker.learn(self._ask)
        requests = self.live.subject.requests
        with ThreadPoolExecutor(_WARM_CLIENTS) as clients:
            list(clients.map(self._ask, requests))
        alone = requests[:_WARM_CLIENTS]
        began = time.monotonic()
        answers = [self._ask(request) for request in alone]
        self._seconds_alone = (time.monotonic() - began) / len(alone)
        self._characters = max(_printed(request.tensors) for request in alone) + max(map(_printed, answers))

    def send(self, load: Load, seconds: float) -> tuple[Sent, Checked]:
        """Sends a load, and checks answers: those that are recorded, or to requests of our own beside it.

        Raises:
            ServerError: a request of our own was refused.
            MachineError: perf_analyzer cannot be run.
        """
        recorded = self._is_recorded(load, seconds)
        if not self.checks:
            return self._run(load, seconds, recorded=recorded), Checked()
        if recorded and self.checker.reads_records:
            sent = self._run(load, seconds, recorded=True)
            return sent, self.checker.check(sent.answers, load.batch)
        with ThreadPoolExecutor(1) as client:
            asked = client.submit(self._ask_slowly, seconds)
            sent = self._run(load, seconds, recorded=recorded)
            return sent, self.checker.check_asked(asked.result())

    def _is_recorded(self, load: Load, seconds: float) -> bool:
        """Whether perf_analyzer's record of all requests is of use: with shared memory it is not, nor of gigabytes."""
        per_second = (load.concurrency or 1) / max(self._seconds_alone, 1e-6) if load.rate is None else load.rate
        return not load.shared_memory and per_second * seconds * load.batch * self._characters < _MOST_RECORDED

    def _run(self, load: Load, seconds: float, *, recorded: bool) -> Sent:
        subject, server, http = self.live.subject, self.live.server, load.protocol == "http"
        poisson = load.arrivals == "poisson"
        traffic = Traffic(load.concurrency, load.rate, poisson, load.batch, http, load.shared_memory)
        run = Run(
            server.http_address if http else server.grpc_address,
            subject.name,
            subject.rows,
            traffic,
            self._long_enough(load, seconds),
            recorded=recorded,
            answers=self.checks,
        )
        shutil.rmtree(self.folder, ignore_errors=True)
        return perf_requests.send(self.tools, run, self.folder, lambda: self.live.runs)

    def _long_enough(self, load: Load, seconds: float) -> float:
        """In each of the program's windows a request must begin and end."""
        window = min(_MOST_WINDOW_SECONDS, 2 * self._seconds_alone * (load.concurrency or 1))
        return max(seconds, perf_requests.WINDOWS * window)

    def _ask_slowly(self, seconds: float) -> dict[int, dict[str, Any]]:
        """Every request once, spread over the time in which a load is sent: request number → answer."""
        requests = self.live.subject.requests
        answers = {}
        for number, request in enumerate(requests):
            time.sleep(seconds / len(requests) / 2)
            answers[number] = self._ask(request)
        return answers

    def _ask(self, request: Request) -> dict[str, Any]:
        """What the server answers to a request of one item; without the batch axis."""
        subject = self.live.subject
        batched = subject.max_batch_size > 0
        tensors = {name: array[None] if batched else array for name, array in request.tensors.items()}
        answer = self.live.client.infer(subject.name, tensors, timeout_seconds=_ASK_SECONDS)
        return {name: array[0] if batched else array for name, array in answer.items()}


def _printed(tensors: Mapping[str, Any]) -> int:
    """How many characters tensors take in perf_analyzer's record, at most."""
    return sum(
        sum(map(len, array.ravel())) if array.dtype.kind == "O" else _DIGITS * array.size for array in tensors.values()
    )
