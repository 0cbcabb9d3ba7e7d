"""NVIDIA's perf_analyzer as a load generator alone: it sends, we look at each request that it sent.

:mod:`builder.tools.perf_analyzer` lets the program decide what is stable. A sweep cuts windows, takes percentiles and
checks answers itself, out of the program's profile export. What was found by running it (2.51):

* It always measures three windows and calls them stable, with a limit of 100 000 %: so it writes the export, too. In an
  unstable run it would write nothing.
* The export holds each request: ``timestamp`` and ``response_timestamps`` (ns since the epoch), and what was sent and
  answered, as text. Of a batch it holds the inputs of the first item, and the outputs of all. BYTES are printed
  without the length of the first item and with those of the others, so that it need not be UTF-8. With shared memory,
  the values are rubbish: they are read from the wrong place.
* Numbers are printed with all their digits: a record of large tensors takes gigabytes, and longer than the run.
* At a number that is none (``NaN``, an infinity) the export ends in the middle, without a word; some of the rubbish is
  such a number, too.

Only what is looked at is parsed: neither time nor memory goes into the other answers.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import random
import re
import time
from array import array
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from builder.errors import MachineError
from builder.tools.perf_analyzer import (
    DATA,
    NOTHING,
    REFUSED,
    REQUESTS,
    WINDOW,
    program_environment,
    write_input_data,
)
from builder.tools.process import Process, describe_status
from builder.tools.process_stat import ProcessStat

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from builder.artifacts import Json
    from builder.tools.perf_analyzer import Value
    from builder.tools.toolchain import Toolchain

WINDOWS: Final = 3  # that the program measures, whatever its options say
OUTPUT_BYTES: Final = 1 << 18  # room for each output in shared memory, where nobody says that it takes more
_EXPORT: Final = "profile.json"
_EVER: Final = 1 << 63
_OUTPUT: Final = "output.txt"
_ANY_SPREAD: Final = "100000"  # percent
_POLL_SECONDS: Final = 0.05
_THREADS_EVERY: Final = 5  # polls
_PATIENCE_SECONDS: Final = 20.0  # beyond a few times of what is measured, for requests in flight
_LINES_SHOWN: Final = 4
_ASYNCHRONOUS_FROM: Final = 16  # requests in flight: as many threads as the program has at most
_MOST_THREADS: Final = 256  # of an open loop
_LEAST_THREADS: Final = 16
_LATENCY_SECONDS: Final = 0.5  # that an open loop bears without sending late, as far as there are threads
_MEASURED: Final = (2, 3, 99)  # exit statuses that say something of the model: two of its error codes, and all others

_REQUEST: Final = b'{"timestamp":'
_ANSWERED: Final = b'"response_timestamps":['
_END: Final = b'"window_boundaries":'
_LATENCY: Final = re.compile(r"p(50|90|95|99) latency: (\d+) usec")
_DELAYED: Final = re.compile(r"([\d.]+)% of the requests were delayed")
_USAGE: Final = "Usage: "  # an option is wrong: no measurement, and our bug
_SERVERS_REASON: Final = re.compile(r"Thread \[\d+\] had error: (?:\[request id: [^\]]*\] )?(.*\S)")

Status = Literal["done", "cut", "nothing", "refused", "late", "stopped"]
"""How a run ended.

* done: requests were sent and answered;
* cut: the same, but the export ends in the middle: only requests before that are told of;
* nothing: in some window no request was answered;
* refused: the server refused a request, which ends the program;
* late: it did not end in time: requests are not answered any more;
* stopped: ``alive`` said so.
"""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is sent: a number of requests in flight, or a number of requests a second."""

    concurrency: int | None = None
    rate: float | None = None
    poisson: bool = True  # with a rate: times between requests are exponential, or all the same
    batch: int = 1  # items in a request
    http: bool = False  # not gRPC
    shared_memory: bool = False  # inputs and outputs lie in the system's


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request sent, its first item alone, and what came back: by tensor, as the program prints it."""

    inputs: dict[str, Json]
    outputs: dict[str, Json]


@dataclass(frozen=True, slots=True)
class ClientUse:
    """What the program itself needed while it measured."""

    seconds: float = 0.0  # how long that was
    cpu_seconds: float = 0.0
    busiest_thread: float = 0.0  # share of one processor that its busiest thread had


@dataclass(frozen=True, slots=True)
class Printed:
    """What the program itself says of a run: all there is where the requests are not recorded."""

    windows: tuple[tuple[float, float], ...]  # inferences per second, and mean latency in ms, of each window
    latencies_ms: dict[str, float]  # p50_ms, p90_ms, p95_ms, p99_ms over all windows
    requests: int


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of a run. Times are nanoseconds since the epoch; answers are some, all over the run."""

    status: Status
    detail: str = ""
    sent_ns: Sequence[int] = ()
    ended_ns: Sequence[int] = ()  # of the same requests
    unanswered: int = 0  # requests without an answer
    answers: tuple[Answer | None, ...] = ()  # None: what came cannot be read, as with NaN
    client: ClientUse = field(default_factory=ClientUse)
    delayed_percent: float = 0.0  # with a rate: requests that were sent later than they should have been
    printed: Printed | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """Who is asked what, and how long."""

    address: str  # host:port of the protocol
    model: str
    rows: Sequence[Mapping[str, Value]]  # requests in turn, see perf_analyzer.write_input_data
    traffic: Traffic
    seconds: float
    recorded: bool = True  # False: only what the program prints is known of the requests
    answers: int = 64  # of how many requests the answers are looked at
    output_bytes: int = OUTPUT_BYTES  # room for each output in shared memory


def send(toolchain: Toolchain, run: Run, folder: Path, alive: Callable[[], bool] = lambda: True) -> Sent:
    """Sends a load for some seconds.

    Args:
        toolchain: whose perf_analyzer is run.
        run: who is asked what.
        folder: an empty folder for what it reads and writes; made if it does not exist.
        alive: asked now and then; False ends the run.

    Raises:
        MachineError: perf_analyzer cannot be started, crashed, or wrote what cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_input_data(run.rows, folder / DATA)
    environment = program_environment(toolchain.perf_libraries)
    output = folder / _OUTPUT
    command = _command(toolchain.perf_analyzer, run)
    with Process(command, what="perf_analyzer", log_path=output, env=environment, cwd=folder, grace_seconds=0) as child:
        samples, stopped = _watch(child, _PATIENCE_SECONDS + 4 * run.seconds, alive, folder / _EXPORT)
        code = child.returncode
    text = output.read_text(encoding="utf-8", errors="replace")
    if stopped is not None:
        return Sent(stopped, detail=_reason(text))
    return _read(_checked(code, text), text, folder / _EXPORT if run.recorded else None, run.answers, samples)


def _command(program: Path, run: Run) -> tuple[str | Path, ...]:
    traffic = run.traffic
    milliseconds = max(1, round(run.seconds * 1000 / WINDOWS))
    return (
        *(program, "-m", run.model, "-u", run.address, "-i", "http" if traffic.http else "grpc", "-v"),
        *("--input-data", DATA, "-b", str(traffic.batch)),
        *("--measurement-interval", str(milliseconds), "--max-trials", str(WINDOWS)),
        *("--stability-percentage", _ANY_SPREAD),
        *(("--profile-export-file", _EXPORT) if run.recorded else ()),
        *_rhythm(traffic),
        *(_shared(run) if traffic.shared_memory else ()),
    )


def _rhythm(traffic: Traffic) -> tuple[str, ...]:
    if traffic.rate is None:
        way = () if (traffic.concurrency or 1) <= _ASYNCHRONOUS_FROM else ("--async",)
        return ("--concurrency-range", str(traffic.concurrency), *way)
    # Threads send in turn. One that still waits for an answer sends late, and the program says so. (With --async it
    # would not wait, and a server that does not keep up would gather requests without end.)
    threads = min(_MOST_THREADS, max(_LEAST_THREADS, round(traffic.rate * _LATENCY_SECONDS)))
    rate = ("--request-rate-range", f"{traffic.rate:g}", "--max-threads", str(threads))
    return (*rate, "--request-distribution", "poisson" if traffic.poisson else "constant")


def _shared(run: Run) -> tuple[str, ...]:
    return ("--shared-memory", "system", "--output-shared-memory-size", str(run.output_bytes))


_Sample = tuple[int, float, dict[str, float]]
"""Time, ns since the epoch; seconds of processor time so far, of the program, and now and then of each thread."""


def _watch(
    child: Process, patience_seconds: float, alive: Callable[[], bool], export: Path
) -> tuple[list[_Sample], Literal["late", "stopped"] | None]:
    """Waits for the program's end, and looks at its threads meanwhile. While its export grows, it is not late."""
    samples: list[_Sample] = []
    deadline, written = time.monotonic() + patience_seconds, 0
    while child.wait(_POLL_SECONDS) is None:
        # Looking at hundreds of threads takes time from what is measured.
        threads = len(samples) % _THREADS_EVERY == 0
        if (used := _processor_seconds(child.pid)) is not None:
            samples.append((time.time_ns(), used, _thread_seconds(child.pid) if threads else {}))
        if not alive():
            return samples, "stopped"
        if time.monotonic() > deadline:
            size = export.stat().st_size if export.is_file() else 0
            if size == written:
                return samples, "late"
            deadline, written = time.monotonic() + patience_seconds, size
    return samples, None


def _processor_seconds(pid: int) -> float | None:
    """Of a process, so far. None: it has ended."""
    try:
        return ProcessStat.read(Path(f"/proc/{pid}")).processor_seconds
    except OSError:
        return None


def _thread_seconds(pid: int) -> dict[str, float]:
    """Of each thread of a process: the kernel's Documentation/scheduler/sched-stats.rst."""
    threads = {}
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # this one has just ended
            threads[task.parent.name] = int(task.read_text(encoding="ascii").split()[0]) / 1e9
    return threads


def _checked(code: int | None, text: str) -> Status:
    if code == 0:
        return "done"
    if code not in _MEASURED or _USAGE in text:
        said = text.partition(_USAGE)[0] if _USAGE in text else _reason(text)
        raise MachineError(f"perf_analyzer: {describe_status(code or 0)}\n{said}")
    return "nothing" if NOTHING in text and REFUSED not in text else "refused"


def _reason(text: str) -> str:
    """The server's reason, where it refused; else the program's last words."""
    if reasons := dict.fromkeys(_SERVERS_REASON.findall(text)):
        return "; ".join(reasons)
    return "\n".join([line.strip() for line in text.splitlines() if line.strip()][-_LINES_SHOWN:])


def _read(status: Status, text: str, path: Path | None, answers: int, samples: Sequence[_Sample]) -> Sent:
    if status != "done":
        return Sent(status, detail=_reason(text))
    try:
        export = Sent(status) if path is None else _export(path, answers)
    except (OSError, ValueError) as error:
        raise MachineError(f"perf_analyzer: its export cannot be read: {type(error).__name__}: {error}") from error
    delayed = _DELAYED.search(text)
    return replace(
        export,
        client=_use(samples, min(export.sent_ns, default=0), max(export.ended_ns, default=_EVER)),
        delayed_percent=float(delayed[1]) if delayed else 0.0,
        printed=_printed(text),
    )


def _printed(text: str) -> Printed:
    count = REQUESTS.search(text)
    return Printed(
        tuple((float(throughput), int(latency) / 1e3) for throughput, latency in WINDOW.findall(text)),
        {f"p{rank}_ms": int(latency) / 1e3 for rank, latency in _LATENCY.findall(text)},
        int(count[1]) if count else 0,
    )


def _export(path: Path, answers: int) -> Sent:
    if not path.stat().st_size:
        return Sent("cut")
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        sent, ended, starts = _times(data)
        whole = data.rfind(_END) >= 0
        read = tuple(_answer(data, starts[at]) for at in _looked_at(len(starts), answers)) if whole else ()
        return Sent("done" if whole else "cut", "", sent, ended, len(starts) - len(sent) if whole else 0, read)


def _looked_at(count: int, answers: int) -> list[int]:
    """Which of the requests: by chance, all over the run. Each n-th might be the same one, sent again and again."""
    chance = random.Random(count)  # noqa: S311 - not for secrets
    return sorted(chance.sample(range(count), min(count, answers)))


def _times(data: mmap.mmap) -> tuple[array[int], array[int], array[int]]:
    """When the answered requests were sent and ended, and where each request begins."""
    sent, ended, starts = array("q"), array("q"), array("q")
    start = data.find(_REQUEST)
    while start >= 0:
        starts.append(start)
        following = data.find(_REQUEST, start + 1)
        answered = data.find(_ANSWERED, start, following if following > 0 else len(data))
        stamps = data[answered + len(_ANSWERED) : data.find(b"]", answered)] if answered >= 0 else b""
        if stamps:
            sent.append(int(data[start + len(_REQUEST) : data.find(b",", start)]))
            ended.append(int(stamps.rpartition(b",")[2]))
        start = following
    return sent, ended, starts


def _answer(data: mmap.mmap, start: int) -> Answer | None:
    following = data.find(_REQUEST, start + 1)
    end = following if following > 0 else data.rfind(b"]", start, data.rfind(_END))
    text = data[start:end].rstrip(b", ").decode("utf-8", "surrogateescape")
    try:
        request = json.loads(text, strict=False)
        (outputs,) = request["response_outputs"]
        return Answer(request["request_inputs"], outputs)
    except (ValueError, LookupError):
        return None


def _use(samples: Sequence[_Sample], began: int, ended: int) -> ClientUse:
    """Processor time between two moments, from the samples nearest to them."""
    inside = [sample for sample in samples if began <= sample[0] <= ended]
    if len(inside) < 2:
        return ClientUse()
    seconds = (inside[-1][0] - inside[0][0]) / 1e9
    return ClientUse(seconds, inside[-1][1] - inside[0][1], _busiest([one for one in inside if one[2]]))


def _busiest(samples: Sequence[_Sample]) -> float:
    """The largest share of one processor that a thread had."""
    if len(samples) < 2:
        return 0.0
    (began, _, before), (ended, _, after) = samples[0], samples[-1]
    return max(used - before.get(thread, 0.0) for thread, used in after.items()) / ((ended - began) / 1e9)
