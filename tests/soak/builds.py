"""Commands that build into a store: of cheap stages, and the real one on a tiny real model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.core.digest import digest_file
from builder.core.store import Store
from builder.settings import settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parent.parent.parent
RECIPE = """\
schema_version: 1
name: soak
source: {path: model}
task: sentence-embedding
inputs: {max_length: 48}
targets: {cpu: {runtime: onnxruntime, hardware: {vcpus: 2}}}
verify: {sweep: {concurrency: [1]}}
"""
LONGEST_SECONDS = 900
GONE_SECONDS = 10.0
"""How long what a killed build had started may take to go: its guardians see to that."""


@dataclass(frozen=True)
class Ended:
    """How a build ended.

    Args:
        code: its exit code.
        answer: what it printed, if it ended well.
        identity: what must be the same whatever happened: digests of trees, and of the archives as they were delivered.
        err: its talk.
    """

    code: int
    answer: Any
    identity: Any
    err: str

    def ran(self) -> list[str]:
        """Stages that ran, of the real command."""
        return [
            stage
            for archive in self.answer["archives"]
            for stage, state in archive["stages"].items()
            if state == "ran"
        ]  # fmt: skip


@dataclass(frozen=True)
class Build:
    """A command that builds into a store, in a folder in which all lies that it writes."""

    command: tuple[str, ...]
    folder: Path
    store: Store
    environment: Mapping[str, str]

    def start(self, *options: str) -> subprocess.Popen[str]:
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), **self.environment}
        return subprocess.Popen(
            [*self.command, *options], cwd=self.folder, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def run(self, *options: str) -> Ended:
        return finish(self.start(*options))

    def kill(self, seconds: float, *options: str, when: str = "") -> tuple[bool, list[str]]:
        """Starts it and kills it so long after it began, or after it said ``when``.

        Returns:
            whether it still ran by then, and what is left of it once that had the time to go: processes, temporary
            files, shared memory.
        """
        process = self.start(*options)
        if when:
            assert process.stderr is not None
            next((line for line in process.stderr if when in line), None)
        time.sleep(seconds)
        hit = process.poll() is None
        if hit:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        deadline = time.monotonic() + GONE_SECONDS
        while (found := self._left(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return hit, found

    def _left(self, pid: int) -> list[str]:
        files = (*(self.folder / "tmp").iterdir(), *Path("/dev/shm").glob(f"tritonsmith-{pid}-*"))
        return [*processes(self.folder), *(path.name for path in files)]


def finish(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=LONGEST_SECONDS)
    answer = json.loads(out) if process.returncode == 0 else None
    return Ended(process.returncode, answer, _identity(answer), err)


def _identity(answer: Any) -> Any:
    if answer is None or "archives" not in answer:
        return answer
    return {
        archive["name"]: [archive["tree_digest"], digest_file(Path(archive["archive"]))]
        for archive in answer["archives"]
    }


def chain(folder: Path, *options: str) -> Build:
    """Cheap stages."""
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / "store"
    return Build((sys.executable, "-m", "tests.core.chain", str(store), *options), folder, Store.at(store), {})


def real(folder: Path, model: Path, recipes: Mapping[str, str] | None = None) -> Build:
    """The real command on a tiny real model; several recipes are one build."""
    folder.mkdir(parents=True)
    (folder / "model").symlink_to(model)
    recipes = recipes or {"soak.yaml": RECIPE}
    for name, text in recipes.items():
        (folder / name).write_text(text)
    cache = folder / "cache"
    cache.mkdir()
    for name in ("toolchain", "environments", "wheels"):
        (settings().cache / name).mkdir(parents=True, exist_ok=True)
        (cache / name).symlink_to(settings().cache / name)
    command = (sys.executable, "-m", "builder", "build", *recipes, "--json")
    return Build(command, folder, Store.at(cache / "store"), {"TRITONSMITH_CACHE": str(cache), "CI": "1"})


def processes(folder: Path) -> Sequence[str]:
    """Command lines of processes that work in a folder (guardians too), or name it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                works_in = str((entry / "cwd").readlink())
            except OSError:
                continue
            if str(folder) in line or works_in.startswith(str(folder)):
                found.append(line[:200])
    return found
