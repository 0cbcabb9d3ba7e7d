"""What a human sees: progress and talk on stderr, results on stdout, one JSON document with ``--json``."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from builder.core.report import FOUND
from builder.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from builder.artifacts import Json
    from builder.core.report import StageTime

HEARTBEAT_SECONDS = 10.0
REDRAW_SECONDS = 0.2

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Tell more on stderr.")]


def print_json(value: Json) -> None:
    """Writes the command's one JSON document to stdout."""
    typer.echo(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Writes a plain table to stdout: columns aligned, numbers to the right."""
    widths = [max(len(str(row[i])) for row in (head, *rows)) for i in range(len(head))]
    typer.echo(title)
    for row in (head, *rows):
        cells = [
            cell.rjust(width) if i and _is_figure(rows, i) else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        typer.echo(("  " + "  ".join(cells)).rstrip())


def _is_figure(rows: Sequence[Sequence[str]], column: int) -> bool:
    return any(row[column][:1].isdigit() for row in rows)


@dataclass
class Console:
    """Progress on stderr: a redrawn line on a terminal, plain lines elsewhere (CI, pipes).

    Implements :class:`builder.core.report.Reporter`. A thread shows the elapsed time of what runs, so that nothing
    that takes more than two seconds is silent.
    """

    interactive: bool = field(default_factory=lambda: sys.stderr.isatty() and not settings().ci)
    times: list[StageTime] = field(default_factory=list)
    _running: dict[str, float] = field(default_factory=dict)  # node → when it began
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)

    def started(self, node: str) -> None:
        with self._lock:
            self._running[node] = time.monotonic()
        if not self.interactive:
            self.line(f"{_stage(node)} ...")

    def finished(self, time: StageTime) -> None:
        self.times.append(time)
        taken = "  found" if time.state == FOUND else f"{time.seconds:6.1f} s"
        self._end(time.node, f"{time.stage:<10} {taken}")

    def failed(self, node: str, seconds: float) -> None:
        self._end(node, f"{_stage(node):<10} {seconds:6.1f} s  failed")

    def blocked(self, node: str) -> None:
        self._end(node, f"{_stage(node):<10}           blocked")

    def _end(self, node: str, text: str) -> None:
        with self._lock:
            self._running.pop(node, None)
        self.line(text)

    def busy(self, what: str = "") -> None:
        """Shows what takes long, with its time, until the next call; empty: nothing does."""
        with self._lock:
            self._running = {what: time.monotonic()} if what else {}

    def line(self, text: str) -> None:
        """One line of talk, above the redrawn one."""
        with self._lock:
            clear = "\r\x1b[K" if self.interactive else ""
            sys.stderr.write(f"{clear}{text}\n")
            sys.stderr.flush()

    def _beat(self) -> None:
        period = REDRAW_SECONDS if self.interactive else HEARTBEAT_SECONDS
        while not self._stop.wait(period):
            with self._lock:
                if not self._running:
                    continue
                now = time.monotonic()
                text = "; ".join(
                    f"{_stage(node):<10} {now - began:6.1f} s ..." for node, began in self._running.items()
                )
                sys.stderr.write(f"\r\x1b[K{text}" if self.interactive else f"{text}\n")
                sys.stderr.flush()


def _stage(node: str) -> str:
    return node.rpartition("/")[2]


class _TalkHandler(logging.Handler):
    """Shows what the libraries below ``builder`` say."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        mark = "  warning: " if record.levelno >= logging.WARNING else "  "
        self.console.line(mark + record.getMessage())


@contextmanager
def console(*, verbose: bool = False) -> Iterator[Console]:
    """The console of one command: attaches to the loggers below ``builder`` and detaches at the end."""
    shown = Console()
    handler = _TalkHandler(shown)
    logger = logging.getLogger("builder")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False
    beat = threading.Thread(target=shown._beat, name="progress", daemon=True)
    beat.start()
    try:
        yield shown
    finally:
        shown._stop.set()
        beat.join()
        logger.removeHandler(handler)
        if shown.interactive:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
