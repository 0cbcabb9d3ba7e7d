"""Starts one command under :mod:`builder.tools.guardian`: what all of :mod:`builder.tools.process` is made of."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from builder.errors import MachineError
from builder.settings import environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_GUARDIAN = Path(__file__).with_name("guardian.py")
_GUARDIAN_SECONDS = 15.0  # more than the guardian itself waits for killed processes


@dataclass(frozen=True, slots=True)
class Order:
    """What the guardian is told."""

    command: tuple[str, ...]
    env: dict[str, str]
    cwd: str | None
    grace_seconds: float = 1.0
    remove: tuple[str, ...] = ()
    remove_orphaned: tuple[str, ...] = ()
    stdin: int | None = None  # a descriptor that the command reads from; None: nothing
    parent: int = field(default_factory=os.getpid)


@dataclass(frozen=True, slots=True, eq=False)
class Child:
    """A command that runs, and its guardian."""

    popen: subprocess.Popen[bytes]  # the guardian
    pid: int  # the command
    grace_seconds: float

    def end(self) -> int:
        """Ends it and everything it started: SIGTERM, then SIGKILL; minus the signal's number, or its exit status."""
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


def words(command: Sequence[str | Path]) -> tuple[str, ...]:
    """A command as strings."""
    return tuple(str(part) for part in command)


def whole(env: Mapping[str, str] | None) -> dict[str, str]:
    """The environment of a command; None: the builder's."""
    return dict(environment() if env is None else env)


def spawn(order: Order, what: str, *, stdout: int | IO[bytes], stderr: int | IO[bytes]) -> Child:
    """Starts the guardian, and through it the command.

    Raises:
        MachineError: one of them cannot be started.
    """
    read, write = os.pipe()
    try:
        popen = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_GUARDIAN), str(write)],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(write,) if order.stdin is None else (write, order.stdin),
            start_new_session=True,
        )
    except OSError as error:
        os.close(read)
        raise MachineError(f"{what}: cannot start a process: {error.strerror}") from error
    finally:
        os.close(write)
    answer = _give_order(popen, order, read)
    if answer.startswith("pid "):
        return Child(popen, int(answer.removeprefix("pid ")), order.grace_seconds)
    for stream in (popen.stdout, popen.stderr):
        if stream is not None:
            stream.close()
    popen.wait()
    reason = answer.removeprefix("error ") or f"its guardian {describe_status(popen.returncode)}"
    raise MachineError(f"{what}: cannot start {order.command[0]}: {reason}")


def _give_order(popen: subprocess.Popen[bytes], order: Order, answer: int) -> str:
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


def describe_status(returncode: int) -> str:
    """What came of a process: ``exited with 3`` or ``was killed by SIGKILL``."""
    if returncode >= 0:
        return f"exited with {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was killed by signal {-returncode}"
