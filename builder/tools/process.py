"""Child processes: with :mod:`builder.tools.spawn`, which it is made of, the only module that starts any.

Every child runs under :mod:`builder.tools.guardian`, in a process group of its own: Ctrl-C reaches only the builder,
and whatever happens to the builder, no child outlives it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from builder.errors import MachineError
from builder.tools.spawn import Child, Order, describe_status, spawn, whole, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

_LINES_SHOWN = 20
_BYTES_SHOWN = 2000
_running: set[Child] = set()
"""What threads of ours wait for now, and cannot be woken from: see :func:`end_all`."""

__all__ = ["Completed", "Dialogue", "Process", "describe_status", "end_all", "run"]


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended; ``returncode`` is minus the signal's number where a signal ended it."""

    returncode: int
    stdout: str
    stderr: str


def run(
    command: Sequence[str | Path],
    *,
    what: str,
    timeout_seconds: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
    on_line: Callable[[str], None] | None = None,
) -> Completed:
    """Runs a command to its end and captures what it writes.

    Args:
        command: program and arguments; no shell is involved.
        what: what the command does, for messages: ``pip download``.
        timeout_seconds: after this it is killed, with everything it started.
        env: the whole environment of the command; default: the builder's.
        cwd: its working folder.
        check: a non-zero exit status is an error.
        on_line: called with each line of standard output as it comes, without its newline.

    Raises:
        MachineError: the command cannot be started, took too long, or (``check``) failed; its last lines are shown.
    """
    order = Order(words(command), whole(env), None if cwd is None else str(cwd))
    child = spawn(order, what, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _running.add(child)
    try:
        stdout, stderr = _communicate(child.popen, timeout_seconds, on_line)
    except subprocess.TimeoutExpired:
        raise MachineError(f"{what}: not done after {timeout_seconds:.0f} s: {_show(command)}") from None
    finally:
        _running.discard(child)
        child.end()
        for stream in (child.popen.stdout, child.popen.stderr):
            if stream is not None:
                stream.close()
    completed = Completed(child.popen.returncode, stdout, stderr)
    if check and completed.returncode != 0:
        status = describe_status(completed.returncode)
        raise MachineError(f"{what} {status}: {_show(command)}\n{_last_lines(completed)}")
    return completed


def end_all() -> None:
    """Ends every :func:`run` and :class:`Dialogue` of other threads: they get an error, and the process can end."""
    for child in list(_running):
        child.popen.terminate()


class Process:
    """A long-lived child. Use it as a context manager, or call :meth:`end`.

    Args:
        command: program and arguments; no shell is involved.
        what: what it is, for messages: ``tritonserver``.
        log_path: where its standard output and error go, together.
        env: its whole environment; default: the builder's.
        cwd: its working folder.
        grace_seconds: how long it may take to end after SIGTERM, before it is killed.
        remove: patterns of files that are removed once it has ended, however it ended: ``/dev/shm/<prefix>*``.
        remove_orphaned: the same, and empty folders, if the builder is gone by then and cannot do it itself.

    Raises:
        MachineError: it cannot be started.
    """

    def __init__(  # noqa: PLR0913 - as many things as differ between children
        self,
        command: Sequence[str | Path],
        *,
        what: str,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        grace_seconds: float = 5.0,
        remove: Sequence[str] = (),
        remove_orphaned: Sequence[str] = (),
    ) -> None:
        self.what = what
        self.log_path = log_path
        try:
            log = log_path.open("ab")
        except OSError as error:
            raise MachineError(f"{what}: cannot write its log {log_path}: {error.strerror}") from error
        place = None if cwd is None else str(cwd)
        order = Order(words(command), whole(env), place, grace_seconds, tuple(remove), tuple(remove_orphaned))
        with log:
            self._child = spawn(order, what, stdout=log, stderr=subprocess.STDOUT)

    @property
    def pid(self) -> int:
        """Process id of the command itself."""
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """How it ended, minus the signal's number where a signal ended it; None while it runs."""
        return self._child.popen.poll()

    def wait(self, timeout_seconds: float) -> int | None:
        """Waits for its end; returns :attr:`returncode`, None when it still runs after ``timeout_seconds``."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.popen.wait(timeout_seconds)
        return self.returncode

    def end(self) -> int:
        """Ends it and everything it started: SIGTERM, then SIGKILL. Does nothing when it has ended already."""
        return self._child.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()


class Dialogue:
    """A long-lived child that is told lines and answers with lines. One thread at a time uses it.

    Args:
        command: program and arguments; no shell is involved.
        what: what it is, for messages.
        env: its whole environment; default: the builder's.

    Raises:
        MachineError: it cannot be started.
    """

    def __init__(self, command: Sequence[str | Path], *, what: str, env: Mapping[str, str] | None = None) -> None:
        self.what = what
        self._errors = os.fdopen(os.memfd_create("stderr"), "w+b")  # in memory: the disk may be full
        read, write = os.pipe()
        try:
            order = Order(words(command), whole(env), None, stdin=read)
            self._child = spawn(order, what, stdout=subprocess.PIPE, stderr=self._errors)
        except BaseException:
            os.close(write)
            self._errors.close()
            raise
        finally:
            os.close(read)
        self._orders = os.fdopen(write, "wb")
        self.last_words = ""
        """The end of what it wrote to its standard error, once it has ended."""
        _running.add(self._child)

    @property
    def has_ended(self) -> bool:
        """Whether it ended by itself, or was killed."""
        return self._child.popen.poll() is not None

    def tell(self, line: str) -> None:
        """Tells it a line. If it has ended, that shows in what it answers: nothing."""
        with contextlib.suppress(BrokenPipeError):
            self._orders.write(line.encode() + b"\n")
            self._orders.flush()

    def answers(self) -> Iterator[str]:
        """The lines that it answers with, each as it comes; the last when it ended."""
        assert self._child.popen.stdout is not None
        for raw in iter(self._child.popen.stdout.readline, b""):
            yield raw.decode(errors="replace").rstrip("\r\n")

    def end(self) -> int:
        """Ends it and everything it started; minus the signal's number, or its exit status. May be called again."""
        try:
            return self._child.end()
        finally:
            _running.discard(self._child)
            self._close()

    def _close(self) -> None:
        if self._errors.closed:
            return
        self._errors.seek(max(0, os.fstat(self._errors.fileno()).st_size - _BYTES_SHOWN))
        self.last_words = self._errors.read().decode(errors="replace").strip()
        self._errors.close()
        with contextlib.suppress(BrokenPipeError):
            self._orders.close()
        assert self._child.popen.stdout is not None
        self._child.popen.stdout.close()


def _communicate(
    popen: subprocess.Popen[bytes], timeout_seconds: float, on_line: Callable[[str], None] | None
) -> tuple[str, str]:
    if on_line is None:
        stdout, stderr = popen.communicate(timeout=timeout_seconds)
        return stdout.decode(errors="replace"), stderr.decode(errors="replace")
    lines: list[str] = []
    errors: list[bytes] = []
    assert popen.stdout is not None
    assert popen.stderr is not None
    readers = [
        threading.Thread(target=_read_lines, args=(popen.stdout, lines, on_line), daemon=True),
        threading.Thread(target=lambda stream: errors.append(stream.read()), args=(popen.stderr,), daemon=True),
    ]
    for reader in readers:
        reader.start()
    popen.wait(timeout_seconds)
    for reader in readers:
        reader.join()
    return "".join(f"{line}\n" for line in lines), b"".join(errors).decode(errors="replace")


def _read_lines(stream: IO[bytes], lines: list[str], on_line: Callable[[str], None]) -> None:
    for raw in stream:
        line = raw.decode(errors="replace").rstrip("\r\n")
        lines.append(line)
        on_line(line)


def _show(command: Sequence[str | Path]) -> str:
    import shlex

    text = shlex.join(str(part) for part in command)
    return text if len(text) <= 300 else text[:300] + " …"


def _last_lines(completed: Completed) -> str:
    lines = (completed.stderr.strip() or completed.stdout.strip()).splitlines()
    return "\n".join(f"  | {line}" for line in lines[-_LINES_SHOWN:])
