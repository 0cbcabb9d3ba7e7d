"""What TensorRT says while it works: kept, not printed; and how far it is."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from builder.tools.tensorrt import Library


class Log:
    """Messages of the parser and the builder: errors are kept, in their order.

    Args:
        library: the module that will talk to it.
    """

    def __init__(self, library: Library) -> None:
        self.errors: list[str] = []
        self.logger = _logger(library, self)

    def take(self, severity: str, message: str) -> None:
        """Keeps an error; ``severity`` is TensorRT's name for it."""
        if severity in {"ERROR", "INTERNAL_ERROR"}:
            self.errors.append(message)


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
    """What the builder is at. It is told by one thread and read by another."""

    def __init__(self) -> None:
        self.state = "reading the model"
        self.phases: dict[str, tuple[int, int]] = {}  # phase → steps done, of how many; the innermost is the last

    def __str__(self) -> str:
        with contextlib.suppress(RuntimeError, StopIteration):  # the builder goes on while this looks
            phase, (done, steps) = next(reversed(self.phases.items()))
            return f"{phase.lower()}, {done} of {steps}" if steps > 1 else phase.lower()
        return self.state


def monitor(library: Library, progress: Progress) -> Any:  # noqa: ANN401 - an IProgressMonitor of one of three libraries
    """Tells ``progress`` what the builder does."""
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
            return True

    return Monitor()
