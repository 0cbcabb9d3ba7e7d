"""pip, as a command: its own index settings, mirrors, proxies and caches hold."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from typing import TYPE_CHECKING

from builder.errors import MachineError, NetworkError
from builder.settings import environment
from builder.tools import pip_missing
from builder.tools.process import Completed, run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Progress = Callable[[str, int, int], None]
    """Called with what is downloaded, the bytes so far, and the bytes in all."""

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 1800.0
_TALK_SECONDS = 3.0
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_NO_NETWORK = re.compile(r"ConnectionError|Connection broken|Read timed out|ProxyError|HTTP error|SSLError")
# Settings of the user's pip that make no sense for what we do; all others hold. pip takes an empty one for none.
_NEUTRAL = {
    "PIP_REQUIRE_VIRTUALENV": "0",
    "PIP_USER": "0",
    "PIP_TARGET": "",
    "PIP_PREFIX": "",
    "PIP_ROOT": "",
    "PIP_PYTHON": "",
    "PIP_REQUIREMENT": "",
    "PIP_EDITABLE": "",
    "PIP_DRY_RUN": "0",
    "PIP_REQUIRE_HASHES": "0",  # we name versions, and compare the hashes that matter ourselves
    "PIP_CONSTRAINT": os.devnull,  # images pin their own numpy so; a file, because pip.conf may name one, too
    "PIP_BUILD_CONSTRAINT": "",
    "PIP_NO_BINARY": "",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_PROGRESS_BAR": "raw",
}


def download(requirement: str, folder: Path, *, options: Sequence[str] = (), progress: Progress | None = None) -> Path:
    """Fetches one wheel, without its dependencies, into ``folder`` (empty) and returns its path.

    Args:
        requirement: ``name==version``.
        folder: where it goes.
        options: further options of ``pip download``, such as ``--platform`` for a machine other than this one.
        progress: told of the download.

    Raises:
        NetworkError: no index could be reached.
        MissingError: none has the package, that version, or a wheel of it for this machine.
        MachineError: pip failed.
    """
    arguments = ["download", "--no-deps", "--only-binary=:all:", *options, "--dest", str(folder), requirement]
    _pip(arguments, (requirement,), progress)
    return next(folder.glob("*.whl"))


def download_all(
    requirements: Sequence[str], folder: Path, *, options: Sequence[str] = (), progress: Progress | None = None
) -> list[Path]:
    """Fetches wheels and those that they need, into ``folder`` (empty); sorted by name.

    Raises:
        NetworkError: no index could be reached.
        MissingError: none has a package, that version, or a wheel of it for the machine that the options name.
        MachineError: pip failed.
    """
    arguments = ["download", "--only-binary=:all:", *options, "--dest", str(folder), *requirements]
    _pip(arguments, requirements, progress)
    return sorted(folder.glob("*.whl"))


def install(requirements: Sequence[str], python: Path, *, progress: Progress | None = None) -> None:
    """Installs exactly these wheels, without dependencies, into the environment of ``python``.

    Raises:
        NetworkError: no index could be reached.
        MissingError: none has the package, that version, or a wheel of it for this machine.
        MachineError: pip failed.
    """
    arguments = ["--python", str(python), "install", "--no-deps", "--only-binary=:all:", *requirements]
    _pip(arguments, requirements, progress)


def _pip(arguments: Sequence[str], requirements: Sequence[str], progress: Progress | None) -> None:
    what = f"pip: {' '.join(requirements)}"
    done = _run(arguments, what, _listener(requirements[0], progress))
    if done.returncode == 0:
        return
    if pip_missing.is_missing(done.stderr) and not _NO_NETWORK.search(done.stderr):
        # Whether an index said so, or did not answer, it tells only when it is asked to tell more.
        asked = _run([*arguments, "-vv", "--retries=0"], what, lambda _: None)
        if asked.returncode != 0 and (error := pip_missing.explain(what, asked, arguments)):
            raise error
    raise _error(what, done)


def _run(arguments: Sequence[str], what: str, on_line: Callable[[str], None]) -> Completed:
    return run(
        [sys.executable, "-m", "pip", *arguments],
        what=what,
        timeout_seconds=TIMEOUT_SECONDS,
        env={**environment(), **_NEUTRAL},
        check=False,
        on_line=on_line,
    )


def _listener(what: str, progress: Progress | None) -> Callable[[str], None]:
    """Tells of pip's progress: to the callback, and now and then to the log."""
    talked = time.monotonic()

    def on_line(line: str) -> None:
        nonlocal talked
        match = _PROGRESS.match(line.strip())
        if not match:
            log.debug("pip: %s", line)
            return
        done, total = int(match[1]), int(match[2])
        if progress:
            progress(what, done, total)
        if time.monotonic() - talked > _TALK_SECONDS:
            talked = time.monotonic()
            log.info("%s: %.1f of %.1f MB", what, done / 1e6, total / 1e6)

    return on_line


def _error(what: str, done: Completed) -> MachineError:
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or done.stderr.splitlines()[-5:]
    text = f"{what}: " + "\n".join(line.removeprefix("ERROR: ") for line in lines)
    if "No module named pip" in done.stderr:
        return MachineError(
            f"{what}: this Python ({sys.executable}) has no pip",
            mend=f"run {sys.executable} -m ensurepip, or install pip into this environment",
        )
    if _NO_NETWORK.search(done.stderr) or pip_missing.is_missing(done.stderr):
        return NetworkError(text, mend="check the network, or pip's settings: index-url, proxy (pip config list)")
    if "No space left on device" in done.stderr or "Errno 28" in done.stderr:
        return MachineError(f"{what}: no space left on the disk", mend="free some space, or set TRITONSMITH_CACHE")
    return MachineError(text)
