"""Child processes: the only module that starts any.

Every child runs under :mod:`builder.tools.guardian`, in a process group of its own: Ctrl-C reaches only the builder,
and whatever happens to the builder, no child outlives it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from builder.errors import MachineError
from builder.settings import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

_GUARDIAN = Path(__file__).with_name("guardian.py")
_LINES_SHOWN = 20
_running: set[_Child] = set()
"""What :func:`run` waits for now, in any thread."""

_GUARDIAN_SECONDS = 15.0  # more than the guardian itself waits for killed processes


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
    order = _Order(_words(command), _whole(env), None if cwd is None else str(cwd))
    child = _spawn(order, what, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
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
    """Ends what :func:`run` waits for in other threads: they get an error, and the process can end."""
    for child in list(_running):
        child.popen.terminate()


class Process:
    """A long-lived child. Use it as a context manager, or call :meth:`end`.

    Args:
        command: program and arguments; no shell is involved.
        what: what it is, for messages: ``tritonserver``.
        log_path: where its standard output and error go, together.
        env: its whole environment; default: the builder's.
        grace_seconds: how long it may take to end after SIGTERM, before it is killed.
        remove: patterns of files that are removed once it has ended, however it ended: ``/dev/shm/<prefix>*``.
        remove_orphaned: the same, and empty folders, if the builder is gone by then and cannot do it itself.

    Raises:
        MachineError: it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        what: str,
        log_path: Path,
        env: Mapping[str, str] | None = None,
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
        order = _Order(_words(command), _whole(env), None, grace_seconds, tuple(remove), tuple(remove_orphaned))
        with log:
            self._child = _spawn(order, what, stdout=log, stderr=subprocess.STDOUT)

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


def describe_status(returncode: int) -> str:
    """``exited with 3`` or ``was killed by SIGKILL``."""
    if returncode >= 0:
        return f"exited with {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was killed by signal {-returncode}"


@dataclass(frozen=True, slots=True)
class _Order:
    """What the guardian is told."""

    command: tuple[str, ...]
    env: dict[str, str]
    cwd: str | None
    grace_seconds: float = 1.0
    remove: tuple[str, ...] = ()
    remove_orphaned: tuple[str, ...] = ()
    parent: int = field(default_factory=os.getpid)


@dataclass(frozen=True, slots=True, eq=False)
class _Child:
    popen: subprocess.Popen[bytes]  # the guardian
    pid: int  # the command
    grace_seconds: float

    def end(self) -> int:
        if self.popen.poll() is None:
            self.popen.terminate()
        try:
            return self.popen.wait(self.grace_seconds + _GUARDIAN_SECONDS)
        except BaseException:
            # A second Ctrl-C, or a guardian that hangs: the command goes with it (PDEATHSIG), its group by hand.
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
            self.popen.kill()
            self.popen.wait()
            raise


def _words(command: Sequence[str | Path]) -> tuple[str, ...]:
    return tuple(str(part) for part in command)


def _whole(env: Mapping[str, str] | None) -> dict[str, str]:
    return dict(environment() if env is None else env)


def _spawn(order: _Order, what: str, *, stdout: int | IO[bytes], stderr: int) -> _Child:
    read, write = os.pipe()
    try:
        popen = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_GUARDIAN), str(write)],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(write,),
            start_new_session=True,
        )
    except OSError as error:
        os.close(read)
        raise MachineError(f"{what}: cannot start a process: {error.strerror}") from error
    finally:
        os.close(write)
    answer = _give_order(popen, order, read)
    if answer.startswith("pid "):
        return _Child(popen, int(answer.removeprefix("pid ")), order.grace_seconds)
    for stream in (popen.stdout, popen.stderr):
        if stream is not None:
            stream.close()
    popen.wait()
    reason = answer.removeprefix("error ") or f"its guardian {describe_status(popen.returncode)}"
    raise MachineError(f"{what}: cannot start {order.command[0]}: {reason}")


def _give_order(popen: subprocess.Popen[bytes], order: _Order, answer: int) -> str:
    """Hands the guardian its order and returns its answer: ``pid N`` or ``error …``."""
    stdin, popen.stdin = popen.stdin, None  # communicate() must not flush it again
    assert stdin is not None
    try:
        with os.fdopen(answer, encoding="utf-8") as stream:
            with contextlib.suppress(BrokenPipeError), stdin:
                stdin.write(json.dumps(asdict(order)).encode())
            return stream.read()
    except BaseException:
        popen.terminate()
        popen.wait()
        raise


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
