"""Runs one command and never leaves any of it behind. A script of its own: it imports nothing of tritonsmith.

:mod:`builder.tools.process` starts it as ``python -I -S guardian.py STATUS_FD`` and writes what to run, as JSON, to its
standard input. The chain is builder → guardian → command:

* The builder dies, however (SIGKILL included): the guardian sees it through a pidfd, ends the command's whole process
  group and removes the files that the command would have removed itself.
* The guardian dies: the kernel kills the command (``PR_SET_PDEATHSIG``). That signal is tied to the *thread* that
  forked; the guardian has one thread only, the builder may have many, which is why the builder does not set it itself.
* The command dies: what it started is killed too, and the guardian ends with the same exit status or signal.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import json
import os
import resource
import select
import signal
import stat
import sys
import time
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36  # orphans of the command become children of the guardian: it can wait for them
POLL_SECONDS = 0.2
KILL_SECONDS = 10.0  # how long a killed process may take to go (uninterruptible disk sleep)


def main() -> None:
    """Reads the order, runs it, and ends as the command ended."""
    order = json.load(sys.stdin)
    status = int(sys.argv[1])
    os.set_inheritable(status, False)  # the builder reads it to its end
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wake = _wake_on_signals()
    child = _start(order, status, libc)
    if _watch(child, order["parent"], wake):
        _terminate(child, order["grace_seconds"], wake)
    code = _finish(child)
    _remove(order["remove"])
    if os.getppid() != order["parent"]:
        _remove(order["remove_orphaned"])
    _exit_like(code)


def _wake_on_signals() -> int:
    """Makes SIGTERM and SIGCHLD readable on a file descriptor; returns it."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return read


def _start(order: dict[str, Any], status: int, libc: ctypes.CDLL) -> int:
    """Forks and executes the command in a process group of its own; tells its pid, or why not, on ``status``."""
    read, write = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        _execute(order, write, libc)
    os.close(write)
    if order["stdin"] is not None:
        os.close(order["stdin"])
    with os.fdopen(read) as failure, os.fdopen(status, "w") as answer:
        answer.write(failure.read() or f"pid {child}")
    return child


def _execute(order: dict[str, Any], failure: int, libc: ctypes.CDLL) -> None:
    try:
        guardian = os.getppid()
        libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != guardian:  # it died before the line above
            os._exit(1)
        os.setpgid(0, 0)
        # Python ignores these two, and an ignored signal stays ignored in what is executed.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        stdin = os.open(os.devnull, os.O_RDONLY) if order["stdin"] is None else order["stdin"]
        os.dup2(stdin, 0)
        os.close(stdin)
        if order["cwd"]:
            os.chdir(order["cwd"])
        os.execvpe(order["command"][0], order["command"], order["env"])  # noqa: S606 - no shell is the point
    except OSError as error:
        os.write(failure, f"error {error.strerror}".encode())
    os._exit(127)


def _watch(child: int, parent: int, wake: int) -> bool:
    """Waits until the command ended (False) or is to be ended: asked by SIGTERM, or the builder is gone (True)."""
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    timeout = POLL_SECONDS * 1000
    with contextlib.suppress(OSError):  # kernels before 5.3 and strict sandboxes have no pidfd: then look now and then
        poll.register(os.pidfd_open(parent), select.POLLIN)
        timeout = 10_000
    while os.getppid() == parent:
        ready = poll.poll(timeout)
        if _ended(child):
            return False
        if any(fd == wake for fd, _ in ready) and signal.SIGTERM in os.read(wake, 512):
            return True
    return True


def _ended(child: int) -> bool:
    # WNOWAIT leaves the zombie, and with it the process group's number, in place until the group has been killed.
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _terminate(child: int, grace_seconds: float, wake: int) -> None:
    """Asks the command to end and gives it some time."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while not _ended(child) and (left := deadline - time.monotonic()) > 0:
        if select.select([wake], [], [], min(left, POLL_SECONDS))[0]:
            os.read(wake, 512)


def _finish(child: int) -> int:
    """Kills what is left of the process group, waits for all of it, and returns the command's wait status."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    _, code = os.waitpid(child, 0)
    deadline = time.monotonic() + KILL_SECONDS
    with contextlib.suppress(ChildProcessError):  # no child is left
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
    return code


def _remove(patterns: list[str]) -> None:
    for pattern in patterns:
        for path in glob.glob(pattern):  # noqa: PTH207 - pathlib takes 20 ms to import, and the builder waits
            with contextlib.suppress(OSError):
                os.rmdir(path) if stat.S_ISDIR(os.lstat(path).st_mode) else os.unlink(path)  # noqa: PTH106, PTH108


def _exit_like(code: int) -> None:
    if os.WIFSIGNALED(code):
        number = os.WTERMSIG(code)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the command's core dump is enough
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(code))


if __name__ == "__main__":
    main()
