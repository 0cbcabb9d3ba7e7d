"""Sends a load to a running server and checks what comes back."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from builder.sweep.checked import Checked
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

WARM_SECONDS: Final = 0.3
"""So long a load is sent before anything counts, where the server has not seen it since it was warmed up: how large its
batches get depends on the load, and the first of each size takes longer."""

_WARM_CLIENTS: Final = 4
_MOST_WINDOW_SECONDS: Final = 10.0
_ASK_SECONDS: Final = 60.0
_MOST_RECORDED: Final = 256 << 20  # characters of perf_analyzer's record of all requests
_DIGITS: Final = 20  # of a number in it
_LENGTH_BYTES: Final = 4  # before each text


@dataclass(frozen=True, slots=True)
class Plan:
    """How a load is sent.

    Args:
        seconds: how long, with what does not count.
        recorded: whether perf_analyzer's record of all requests is of use: with shared memory it is not, nor of
            gigabytes.
        warm_seconds: from the first request on nothing counts.
        output_bytes: room for each output in shared memory.
    """

    seconds: float
    recorded: bool
    warm_seconds: float
    output_bytes: int


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
    _output_bytes: int = field(default=0, init=False)  # of an output of one item, at most
    _seen: set[Load] = field(default_factory=set, init=False)  # what was sent since the server was warmed up

    def warm_up(self) -> None:
        """Asks every request once, some at the same time; then some alone, to know how long that takes.

        Raises:
            ServerError: the server refused one, or did not answer.
        """
        self.checker.learn(self._ask)
        requests = self.live.subject.requests
        with ThreadPoolExecutor(_WARM_CLIENTS) as clients:
            answers = list(clients.map(self._ask, requests))
        alone = requests[:_WARM_CLIENTS]
        began = time.monotonic()
        for request in alone:
            self._ask(request)
        self._seconds_alone = (time.monotonic() - began) / len(alone)
        self._characters = max(_printed(request.tensors) for request in requests) + max(map(_printed, answers))
        self._output_bytes = max(map(largest_bytes, answers))
        self._seen = set()

    def send(self, load: Load, seconds: float) -> tuple[Sent, Checked]:
        """Sends a load, and checks answers: those that are recorded, or to requests of our own beside it.

        Raises:
            ServerError: a request of our own was refused.
            MachineError: perf_analyzer cannot be run.
        """
        plan = self.planned(load, seconds)
        self._seen.add(load)
        if not self.checks or (plan.recorded and self.checker.reads_records(load.batch)):
            sent = self._run(load, plan)
            checked = self.checker.check(sent.answers, load.batch) if self.checks else Checked()
        else:
            with ThreadPoolExecutor(1) as client:
                asked = client.submit(self._ask_slowly, plan.seconds)
                sent = self._run(load, plan)
                checked = self.checker.check_asked(asked.result())
        return settled(sent, plan.warm_seconds), checked

    def planned(self, load: Load, seconds: float) -> Plan:
        """How a load is sent for so many seconds that count.

        In each of the program's windows a request must begin and end. Single requests cannot be left out of what the
        program prints: without a record the warm-up counts, too.
        """
        window = min(_MOST_WINDOW_SECONDS, 2 * self._seconds_alone * (load.concurrency or 1))
        lasting = max(seconds, perf_requests.WINDOWS * window)
        warm_seconds = 0.0 if load in self._seen else WARM_SECONDS
        per_second = (load.concurrency or 1) / max(self._seconds_alone, 1e-6) if load.rate is None else load.rate
        characters = per_second * (lasting + warm_seconds) * load.batch * self._characters
        recorded = not load.shared_memory and characters < _MOST_RECORDED
        output_bytes = max(perf_requests.OUTPUT_BYTES, self._output_bytes * load.batch)
        warm_seconds = warm_seconds if recorded else 0.0
        return Plan(lasting + warm_seconds, recorded, warm_seconds, output_bytes)

    def _run(self, load: Load, plan: Plan) -> Sent:
        subject, server, http = self.live.subject, self.live.server, load.protocol == "http"
        poisson = load.arrivals == "poisson"
        traffic = Traffic(load.concurrency, load.rate, poisson, load.batch, http, load.shared_memory)
        run = Run(
            server.http_address if http else server.grpc_address,
            subject.name,
            subject.rows,
            traffic,
            plan.seconds,
            recorded=plan.recorded,
            answers=self.checks,
            output_bytes=plan.output_bytes,
        )
        shutil.rmtree(self.folder, ignore_errors=True)
        return perf_requests.send(self.tools, run, self.folder, lambda: self.live.runs)

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


def largest_bytes(tensors: Mapping[str, Any]) -> int:
    """Of the largest of some tensors, as it lies in shared memory."""
    return max(
        (
            sum(_LENGTH_BYTES + len(text) for text in array.ravel()) if array.dtype.kind == "O" else array.nbytes
            for array in tensors.values()
        ),
        default=0,
    )


def settled(sent: Sent, warm_seconds: float) -> Sent:
    """A run without the requests that were answered in its first seconds; whole, where none are later.

    Of a server that falls behind, the record has only what it answered: what was sent later may not be there.
    """
    if not sent.sent_ns or not warm_seconds:
        return sent
    counts_from = min(sent.sent_ns) + warm_seconds * 1e9
    pairs = zip(sent.sent_ns, sent.ended_ns, strict=True)
    kept = [(began, ended) for began, ended in pairs if ended >= counts_from]
    if not kept:
        return sent
    return replace(sent, sent_ns=[began for began, _ in kept], ended_ns=[ended for _, ended in kept])
