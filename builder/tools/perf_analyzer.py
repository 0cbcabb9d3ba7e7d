"""NVIDIA's perf_analyzer: one concurrency at a time, real texts in, one :class:`Point` out.

What was found by running it (2.51):

* It writes its CSV only when it found a stable window. Otherwise it ends with status 2 and ``Failed to obtain stable
  measurement``. Any other failure ends with 99: a refused request, and a window in which no request was answered.
  Anything else is not a measurement: 127 is the dynamic loader's, for a library that is missing.
* For an ensemble it writes one more CSV for each step, named ``<model>_v<version>.<csv>``: with a path in place of a
  plain file name those go astray, so it runs inside the folder of its files.
* Without ``--percentile`` it decides stability by the average latency, and its CSV has p50, p90, p95 and p99.
"""

from __future__ import annotations

import base64
import csv
import json
import logging
import re
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from builder.errors import MachineError
from builder.settings import environment
from builder.tools import process

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from builder.artifacts import Json
    from builder.tools.opaque import Array
    from builder.tools.process import Completed
    from builder.tools.toolchain import Toolchain

log = logging.getLogger(__name__)

Value: TypeAlias = "str | bytes | Sequence[int] | Array"
"""What one request sends to one input; an array has no batch axis."""

DATA: Final = "input.json"
"""What it is told to send, in the folder that it runs in."""

# What it prints.
NOTHING: Final = "No valid requests recorded within time interval"
REFUSED: Final = "Failed to maintain requested inference load"
WINDOW: Final = re.compile(r"Pass \[\d+\] throughput: ([\d.]+) infer/sec\. Avg latency: (\d+) usec")
REQUESTS: Final = re.compile(r"Request count: (\d+)")

_CSV: Final = "report.csv"
_LINES_SHOWN: Final = 6
_MEASURED: Final = (0, 2, 99)  # exit statuses that say something of the model
_UNSTABLE: Final = "Failed to obtain stable measurement"
_OVERHEAD: Final = re.compile(r"Avg client overhead: ([\d.]+)%")

# Columns of the CSV, in microseconds there → fields of Times.
_TIMES: Final = {
    "Client Send": "client_send_ms",
    "Client Recv": "client_receive_ms",
    "Network+Server Send/Recv": "network_ms",
    "Server Queue": "server_queue_ms",
    "Server Compute Input": "server_compute_input_ms",
    "Server Compute Infer": "server_compute_infer_ms",
    "Server Compute Output": "server_compute_output_ms",
    "Server Cache Hit": "server_cache_hit_ms",
    "Server Cache Miss": "server_cache_miss_ms",
}


@dataclass(frozen=True, slots=True)
class Windows:
    """How long it measures: windows of ``interval_milliseconds``, until three in a row agree."""

    interval_milliseconds: int = 1500
    trials: int = 6  # windows at most
    stability_percent: float = 10.0  # by how much the three windows may differ, in throughput and average latency

    @property
    def timeout_seconds(self) -> float:
        """When to give up on the program: it waits for requests in flight, so far later than the last window ends."""
        return 120 + 3 * self.trials * self.interval_milliseconds / 1000


@dataclass(frozen=True, slots=True)
class Step:
    """A step of an ensemble: what it did and where its time went, milliseconds per request."""

    throughput_per_second: float
    times_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured at one concurrency.

    ``status`` is stable; or unstable, when no three windows agreed or it took too long: then there are no percentiles,
    and ``windows_per_second`` says what was seen; or failed, when a request was refused: ``detail`` says why.
    """

    concurrency: int  # requests in flight
    status: str
    throughput_per_second: float | None = None  # inferences
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    times_ms: dict[str, float] = field(default_factory=dict)  # averages: where a request's time went
    steps: dict[str, Step] = field(default_factory=dict)
    requests: int | None = None
    client_overhead_percent: float | None = None
    windows_per_second: tuple[float, ...] = ()  # throughput of each window
    windows_latency_ms: tuple[float, ...] = ()  # average latency of each window
    detail: str = ""  # last lines of the program, where it did not end well


def write_input_data(rows: Iterable[Mapping[str, Value]], path: Path) -> None:
    """Writes texts, files or token ids as ``--input-data``: perf_analyzer sends them in turn, each in a batch of 1.

    Args:
        rows: for each request, input name → text or bytes (shape [1], type BYTES), or numbers (shape [count], or the
            array's own).
        path: the file to write.
    """
    data = [{name: _tensor(value) for name, value in row.items()} for row in rows]
    path.write_text(json.dumps({"data": data}), encoding="utf-8")


def _tensor(value: Value) -> dict[str, Json]:
    if isinstance(value, str):
        # The program reads a text as a C string, which ends at NUL.
        return {"content": [value.replace("\0", "")], "shape": [1]}
    if isinstance(value, bytes):
        return _raw(_prefixed(value), (1,))
    if not isinstance(value, Sequence):
        items = b"".join(map(_prefixed, value.ravel())) if value.dtype.kind == "O" else value.tobytes()
        return _raw(items, value.shape)
    return {"content": list(value), "shape": [len(value)]}


def _raw(content: bytes, shape: Sequence[int]) -> dict[str, Json]:
    return {"b64": base64.b64encode(content).decode("ascii"), "shape": list(shape)}


def _prefixed(item: bytes) -> bytes:
    # base64 stands for what is sent, and an item of BYTES is sent behind its length.
    return struct.pack("<I", len(item)) + item


def measure(
    toolchain: Toolchain,
    *,
    address: str,
    model: str,
    rows: Sequence[Mapping[str, Value]],
    concurrency: int,
    folder: Path,
    windows: Windows = Windows(),
) -> Point:
    """Measures a model at one concurrency.

    Args:
        toolchain: whose perf_analyzer is run.
        address: ``host:port`` of the gRPC service.
        model: the model that clients call.
        rows: the requests, see :func:`write_input_data`.
        concurrency: how many requests are in flight at any time.
        folder: an empty folder for what it reads and writes; made if it does not exist.
        windows: how long it measures.

    Returns:
        The point; its status says whether it can be used.

    Raises:
        MachineError: perf_analyzer cannot be started, crashed, or wrote what cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_input_data(rows, folder / DATA)
    lines: list[str] = []
    began = time.monotonic()
    command = _command(toolchain.perf_analyzer, address, model, concurrency, windows)
    try:
        completed = _run(command, toolchain, folder, windows, lines)
    except MachineError as error:
        if time.monotonic() - began < windows.timeout_seconds:
            raise  # it was not started
        # It waits for requests in flight: a model that is slow says nothing against the machine or its answers.
        return _with(_point(concurrency, "\n".join(lines)), status="unstable", detail=error.message)
    (folder / "output.txt").write_text(completed.stdout + completed.stderr, encoding="utf-8")
    return read_point(completed, concurrency, folder)


def _run(
    command: Sequence[str | Path], toolchain: Toolchain, folder: Path, windows: Windows, lines: list[str]
) -> Completed:
    # ``lines`` are what it has printed, also when it does not end in time.
    def on_line(line: str) -> None:
        log.debug("%s", line)
        lines.append(line)

    return process.run(
        command,
        what="perf_analyzer",
        timeout_seconds=windows.timeout_seconds,
        env=program_environment(toolchain.perf_libraries),
        cwd=folder,
        check=False,
        on_line=on_line,
    )


def read_point(completed: Completed, concurrency: int, folder: Path) -> Point:
    """Makes a point of what perf_analyzer printed and wrote.

    Raises:
        MachineError: it was killed, ended with a status of no measurement, or its CSV cannot be read.
    """
    if completed.returncode not in _MEASURED:
        status = process.describe_status(completed.returncode)
        raise MachineError(f"perf_analyzer: {status} at concurrency {concurrency}\n{_last_lines(completed)}")
    point = _with(_point(concurrency, completed.stdout), detail=_last_lines(completed))
    if completed.returncode != 0:
        return _with(point, status="unstable") if _is_unstable(completed) else point
    return _stable(point, completed.stdout, folder)


def _point(concurrency: int, stdout: str) -> Point:
    """The windows that it told of; failed until something better is known."""
    found = WINDOW.findall(stdout)
    return Point(
        concurrency,
        "failed",
        windows_per_second=tuple(float(throughput) for throughput, _ in found),
        windows_latency_ms=tuple(_milliseconds(latency) for _, latency in found),
    )


def _is_unstable(completed: Completed) -> bool:
    """No three windows agreed; or a request takes longer than a window, and none of them failed."""
    output = completed.stdout + completed.stderr
    return _UNSTABLE in output or (NOTHING in output and REFUSED not in output)


def _stable(point: Point, stdout: str, folder: Path) -> Point:
    row = _read_csv(folder / _CSV, point.concurrency)
    steps = {
        path.name.removesuffix(f".{_CSV}").rpartition("_v")[0]: _read_csv(path, point.concurrency)
        for path in sorted(folder.glob(f"*_v*.{_CSV}"))
    }
    requests, overhead = REQUESTS.search(stdout), _OVERHEAD.search(stdout)
    return _with(
        point,
        status="stable",
        throughput_per_second=float(row["Inferences/Second"]),
        **{f"p{rank}_ms": _milliseconds(row[f"p{rank} latency"]) for rank in (50, 90, 95, 99)},
        times_ms=_times(row),
        steps={name: Step(float(step["Inferences/Second"]), _server_times(step)) for name, step in steps.items()},
        requests=int(requests[1]) if requests else None,
        client_overhead_percent=float(overhead[1]) if overhead else None,
        detail="",
    )


def _with(point: Point, **changes: object) -> Point:
    return replace(point, **changes)  # type: ignore[arg-type]


def _read_csv(path: Path, concurrency: int) -> dict[str, str]:
    """The one row of a report.

    Raises:
        MachineError: there is no such row, or a column is missing.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if float(row["Concurrency"]) == concurrency]
        (row,) = rows
        float(row["Inferences/Second"])
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise MachineError(
            f"perf_analyzer: its report {path} cannot be read: {type(error).__name__}: {error}"
        ) from error
    return row


def _times(row: Mapping[str, str]) -> dict[str, float]:
    return {field: _milliseconds(row[column]) for column, field in _TIMES.items() if row.get(column)}


def _server_times(row: Mapping[str, str]) -> dict[str, float]:
    # A step has no client: those columns are always 0.
    return {field: value for field, value in _times(row).items() if field.startswith("server_")}


def _milliseconds(microseconds: str) -> float:
    return float(microseconds) / 1000


def _command(program: Path, address: str, model: str, concurrency: int, windows: Windows) -> tuple[str | Path, ...]:
    return (
        program,
        *("-m", model, "-u", address, "-i", "grpc", "-v"),
        *("--input-data", DATA),
        *("--concurrency-range", str(concurrency)),
        *("--measurement-interval", str(windows.interval_milliseconds)),
        *("--max-trials", str(windows.trials)),
        *("--stability-percentage", f"{windows.stability_percent:g}"),
        *("-f", _CSV),
    )


def program_environment(libraries: Path) -> dict[str, str]:
    """The environment in which perf_analyzer finds its libraries, and its way to the server."""
    # A proxy of the user's is not for loopback, but gRPC would take it.
    ours = {name: value for name, value in environment().items() if not name.lower().endswith("_proxy")}
    folders = (str(libraries), ours.get("LD_LIBRARY_PATH", ""))
    return {**ours, "LD_LIBRARY_PATH": ":".join(folder for folder in folders if folder)}


def _last_lines(completed: Completed) -> str:
    lines = [line for line in (completed.stdout + "\n" + completed.stderr).splitlines() if line.strip()]
    return "\n".join(line.strip() for line in lines[-_LINES_SHOWN:])
