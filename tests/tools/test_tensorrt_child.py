"""What the process tells that compiles; what it makes is tested in ``tests/engine``."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from builder.tools import tensorrt_child
from builder.tools.tensorrt import load
from builder.tools.tensorrt_log import Log, Progress, monitor

if TYPE_CHECKING:
    import pytest


def test_progress_is_told_while_the_library_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_child, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(tensorrt_child, "NEXT_SECONDS", 0.0)
    progress, done = Progress(), threading.Event()
    told: list[dict[str, Any]] = []
    watch = monitor(load("tensorrt-rtx"), progress)
    steps = [
        lambda: watch.phase_start("Timing Tactics", "", 3),
        lambda: watch.step_complete("Timing Tactics", 1),
        lambda: watch.phase_start("One Step", "Timing Tactics", 1),
        lambda: watch.phase_finish("One Step"),
        lambda: watch.phase_finish("Timing Tactics"),
        done.set,
    ]

    def write(answer: dict[str, Any]) -> None:
        told.append(answer)
        steps[len(told) - 1]()

    tensorrt_child._tell(progress, done, write)
    assert [answer["at"] for answer in told] == [
        "reading the model",
        "timing tactics, 0 of 3",
        "timing tactics, 2 of 3",
        "one step",
        "timing tactics, 2 of 3",
        "reading the model",
    ]


def test_errors_are_kept_and_the_rest_is_not() -> None:
    library = load("tensorrt-rtx")
    log = Log(library)
    library.Builder(log.logger).create_network(0)
    log.logger.log(library.ILogger.Severity.WARNING, "seen")
    log.logger.log(library.ILogger.Severity.ERROR, "failed")
    assert log.errors == ["failed"]
