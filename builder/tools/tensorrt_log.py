"""What TensorRT says while it works: kept, not printed; and how far it is."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.tools.tensorrt import Library

log = logging.getLogger(__name__)

SAY_AFTER_SECONDS: Final = 2.0


class Log:
    """Messages of the parser and the builder, in their order.

    Args:
        library: the module that will talk to it.
    """

    def __init__(self, library: Library) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.logger = _logger(library, self)

    def take(self, severity: str, message: str) -> None:
        """Keeps a message; ``severity`` is TensorRT's name for it."""
        log.debug("%s: %s", severity, message)
        if severity in {"ERROR", "INTERNAL_ERROR"}:
            self.errors.append(message)
        elif severity == "WARNING" and message not in self.warnings:
            self.warnings.append(message)


def _logger(library: Library, kept: Log) -> Any:  # noqa: ANN401 - an ILogger of one of three libraries
    if TYPE_CHECKING:
        from tensorrt import ILogger
    else:
        ILogger = library.ILogger  # noqa: N806 - a class

    class Logger(ILogger):
        def __init__(self) -> None:
            ILogger.__init__(self)

        def log(self, severity: ILogger.Severity, message: str) -> None:
            kept.take(severity.name, message)

    return Logger()


class Progress:
    """What the builder is at. It is told by the builder's thread, and read by the one that waits."""

    def __init__(self) -> None:
        self.phases: dict[str, tuple[int, int]] = {}  # phase → steps done, of how many; the innermost is the last
        self.cancelled = threading.Event()

    def __str__(self) -> str:
        with contextlib.suppress(RuntimeError, StopIteration):  # the builder goes on while this looks
            phase, (done, steps) = next(reversed(self.phases.items()))
            return f"{phase.lower()}, {done} of {steps}" if steps > 1 else phase.lower()
        return "parsing"


def monitor(library: Library, progress: Progress) -> Any:  # noqa: ANN401 - an IProgressMonitor of one of three libraries
    """Tells ``progress`` what the builder does; the builder stops when that is cancelled."""
    if TYPE_CHECKING:
        from tensorrt import IProgressMonitor
    else:
        IProgressMonitor = library.IProgressMonitor  # noqa: N806 - a class

    class Monitor(IProgressMonitor):
        def __init__(self) -> None:
            IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:  # noqa: ARG002
            progress.phases[phase_name] = (0, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            progress.phases.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in progress.phases:
                progress.phases[phase_name] = (step + 1, progress.phases[phase_name][1])
            return not progress.cancelled.is_set()

    return Monitor()


def watched(what: str, progress: Progress, call: Callable[[], None]) -> None:
    """Runs a call that may take minutes and holds no Python, in a thread: this one says how far it is.

    An interruption reaches this thread at once, and the builder at its next step.

    Raises:
        BaseException: the call's own.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="tensorrt", daemon=True)
    began = time.monotonic()
    thread.start()
    try:
        while thread.is_alive():
            thread.join(SAY_AFTER_SECONDS)
            if thread.is_alive():
                log.info("%s: %s (%.0f s)", what, progress, time.monotonic() - began)
    except BaseException:
        progress.cancelled.set()
        thread.join(SAY_AFTER_SECONDS)
        raise
    if raised:
        raise raised[0]


@contextlib.contextmanager
def spilled(*descriptors: int) -> Iterator[list[str]]:
    """Lines that C++ code writes to file descriptors of this process meanwhile; the list is filled at the end.

    The libraries print some of their messages past the logger. Standard error is ours as well (progress): take it only
    for a moment.
    """
    lines: list[str] = []
    memory = os.memfd_create("spilled")
    saved = {descriptor: os.dup(descriptor) for descriptor in descriptors}
    try:
        for descriptor in descriptors:
            os.dup2(memory, descriptor)
        yield lines
    finally:
        for descriptor, before in saved.items():
            os.dup2(before, descriptor)
            os.close(before)
        with os.fdopen(memory, "rb") as stream:
            stream.seek(0)
            lines += stream.read().decode(errors="replace").splitlines()
