"""The command as a user runs it, on a recipe of a tiny real model."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.settings import settings
from tests.models import make_model

RECIPE = """\
schema_version: 1
name: tiny
source: {path: model}
task: sentence-embedding
inputs: {max_length: 48}
shapes: {batch: {max: 8}}
targets: {cpu: {runtime: onnxruntime, hardware: {vcpus: 2}, triton: "25.09"}}
verify: {sweep: {concurrency: [2]}}
"""


BRISK = (
    "-c",
    """
import sys
from builder.cli import main
from builder.tools.perf_analyzer import Windows
from builder.verify import load
load.fitting_windows = lambda seconds, concurrency: Windows(400, trials=3, stability_percent=500)
main(sys.argv[1:])
""",
)
"""The command, with short measurements that are always stable: where the figures of speed prove nothing, perf_analyzer
need not keep both processors busy for 10 s and more."""


TELL_MODULES = """
import sys
from builder.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    print("MODULES", *{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
    sys.exit(end.code)
"""


TELL_HASHED = """
import hashlib, sys
hashed = {}

def file_digest(stream, name, real=hashlib.file_digest):
    hashed[stream.name] = "whole"
    return real(stream, name)

class Spy:
    def __init__(self, content=b"", real=hashlib.sha256, **options):
        self.real = real(content, **options)
    def update(self, content):
        hashed["streams"] = hashed.get("streams", 0) + len(content)
        self.real.update(content)
    def __getattr__(self, name):
        return getattr(self.real, name)

hashlib.file_digest, hashlib.sha256 = file_digest, Spy
from builder.cli import main
try:
    main(sys.argv[1:])
finally:
    import json
    print("HASHED", json.dumps({str(key): value for key, value in hashed.items()}), file=sys.stderr)
"""


@dataclass(frozen=True)
class Done:
    """How the command ended."""

    code: int
    out: str
    err: str
    pid: int = 0
    ran: str = ""  # command lines of what ran when it was interrupted

    @property
    def json(self):
        return json.loads(self.out)


@dataclass(frozen=True)
class Command:
    """``tritonsmith`` in a folder of its own, with a cache of its own whose toolchain is the user's."""

    folder: Path

    @property
    def cache(self):
        return self.folder / "cache"

    @property
    def recipe(self):
        return self.folder / "tiny.yaml"

    def start(self, *arguments, program=("-m", "builder"), umask=-1, **environment):
        environment = {**os.environ, "TRITONSMITH_CACHE": str(self.cache), "CI": "1", **environment}
        return subprocess.Popen(
            [sys.executable, *program, *map(str, arguments)],
            cwd=self.folder, env=environment, umask=umask, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def __call__(self, *arguments, **environment):
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=240)
        return Done(process.returncode, out, err)

    def imported(self, *arguments):
        """What the command printed, and which modules it had imported when it was done."""
        process = self.start(*arguments, program=("-c", TELL_MODULES))
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        return Done(process.returncode, out, err), set(err.rpartition("MODULES ")[2].split())

    def hashed(self, *arguments):
        """Which files the command hashed whole, and how many bytes it hashed while it copied or packed."""
        process = self.start(*arguments, program=("-c", TELL_HASHED))
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        found = json.loads(err.rpartition("HASHED ")[2])
        return found.pop("streams", 0), {Path(name).name for name in found}

    def interrupt(self, number, when, *arguments, victim=None, after_seconds=0.0, **environment):
        """Runs the command until a line of its talk holds ``when``; then it, or its ``victim``, gets a signal."""
        process = self.start(*arguments, **environment)
        seen, ran = [], ""
        for line in process.stderr:
            seen.append(line)
            if when in line:
                time.sleep(after_seconds)
                ran = "\n".join(line for _, line in self.processes())
                os.kill(process.pid if victim is None else self._find(victim), number)
                break
        try:
            out, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return Done(process.returncode, out, "".join(seen) + err, process.pid, ran)

    def _find(self, program):
        (pid,) = [pid for pid, line in self.processes() if line.split()[0].endswith(f"/{program}")]
        return pid

    def processes(self):
        """Processes whose command line or cache names this folder: (pid, command line)."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    known = line + (entry / "environ").read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if str(self.folder) in known:
                    yield int(entry.name), line

    def settled(self, timeout_seconds=10.0):
        """What is still running after a while: nothing may be."""
        deadline = time.monotonic() + timeout_seconds
        while (found := list(self.processes())) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    return make_model("bert", "sentence-embedding", tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def command(tmp_path, tiny_model, toolchain, server_environment):
    return make_command(tmp_path, tiny_model)


@pytest.fixture(scope="session")
def whole(tmp_path_factory, tiny_model, toolchain, server_environment):
    """A build that nobody disturbed, and whose archive nobody has verified: where it was made, and what it printed."""
    made = make_command(tmp_path_factory.mktemp("whole"), tiny_model)
    done = made("build", made.recipe, "--no-verify", "--json", "--jobs", "1")
    assert done.code == 0, done.err
    return made, done


@pytest.fixture
def again(command, whole):
    """The command with all of that in its store, as if it had built it itself."""
    shutil.copytree(whole[0].cache / "store", command.cache / "store", symlinks=True)
    return command


@pytest.fixture(scope="session")
def built(whole):
    """That archive."""
    return Path(whole[1].json["archives"][0]["archive"])


@pytest.fixture
def archive(tmp_path, built):
    """A copy of that archive with all that lies beside it, and other tolerances if asked."""

    def copy(parity=None):
        shutil.copytree(built.parent, tmp_path / "copy")
        path = tmp_path / "copy" / built.name
        manifest = path.with_name(path.name.replace(".tar.gz", ".manifest.json"))
        content = json.loads(manifest.read_text())
        content["gates"]["tolerances"].update(parity or {})
        manifest.write_text(json.dumps(content))
        return path

    return copy


def make_command(folder, model):
    (folder / "model").symlink_to(model)
    (folder / "tiny.yaml").write_text(RECIPE)
    made = Command(folder)
    made.cache.mkdir()
    for name in ("toolchain", "environments", "wheels"):
        shared = settings().cache / name
        shared.mkdir(exist_ok=True)
        (made.cache / name).symlink_to(shared)
    return made


TERMINATE, KILL, INTERRUPT = signal.SIGTERM, signal.SIGKILL, signal.SIGINT
