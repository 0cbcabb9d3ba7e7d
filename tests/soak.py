"""Crash and load tests at their full size; the suite runs a bounded share of the same (``tests/core/test_crashes.py``).

Each part is seeded, and counts what went wrong. A part without a failure is ``"failures": []``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.core.collect import statistics, verify
from builder.core.store import Store
from builder.settings import settings
from tests.models import make_model

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "soak.json"
RECIPES = "abcdefgh"
REAL = """\
schema_version: 1
name: soak
source: {path: model}
task: sentence-embedding
targets: {cpu: {runtime: onnxruntime, hardware: {vcpus: 2}}}
"""


@dataclass(frozen=True)
class Build:
    """A command that builds into a store, and prints what it built."""

    command: tuple[str, ...]
    folder: Path
    store: Path
    environment: dict[str, str]

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command, cwd=self.folder, env={**os.environ, "PYTHONPATH": str(ROOT), **self.environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def finish(self, process: subprocess.Popen[str]) -> tuple[int, Any, str]:
        out, err = process.communicate(timeout=900)
        return process.returncode, json.loads(out) if process.returncode == 0 else None, err


def chain(folder: Path, *options: str) -> Build:
    """Cheap stages."""
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / "store"
    return Build((sys.executable, "-m", "tests.core.chain", str(store), *options), ROOT, store, {})


def real(folder: Path, model: Path) -> Build:
    """The real command on a tiny real model."""
    folder.mkdir(parents=True)
    (folder / "model").symlink_to(model)
    (folder / "soak.yaml").write_text(REAL)
    cache = folder / "cache"
    cache.mkdir()
    for name in ("toolchain", "environments", "wheels"):
        (settings().cache / name).mkdir(parents=True, exist_ok=True)
        (cache / name).symlink_to(settings().cache / name)
    command = (sys.executable, "-m", "builder", "build", "soak.yaml", "--no-verify", "--json")
    return Build(command, folder, cache / "store", {"TRITONSMITH_CACHE": str(cache), "CI": "1"})


def identity(answer: Any) -> Any:
    """What must be the same whatever happened: digests of trees, and of archives."""
    if "archives" not in answer:
        return answer
    return {archive["name"]: [archive["tree_digest"], archive["sha256"]] for archive in answer["archives"]}


def kills(make: Any, count: int, dice: random.Random, folder: Path) -> dict[str, Any]:
    """SIGKILL at random moments; the next run must complete, and be equal."""
    build = make(folder / "whole")
    began = time.monotonic()
    code, answer, err = build.finish(build.start())
    if code:
        return {"failures": [f"undisturbed: {err[-500:]}"]}
    whole, truth, failures, seconds = time.monotonic() - began, identity(answer), [], []
    hits = 0
    for number in range(count):
        build = make(folder / f"kill-{number}")
        process = build.start()
        time.sleep(dice.uniform(0, 1) * whole)
        hits += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        store = Store.at(build.store)
        if not verify(store).is_clean:
            failures.append(f"{number}: not clean after the kill")
        began = time.monotonic()
        code, answer, err = build.finish(build.start())
        seconds.append(round(time.monotonic() - began, 3))
        if code or identity(answer) != truth:
            failures.append(f"{number}: {err[-500:] if code else identity(answer)}")
        if not verify(store).is_clean:
            failures.append(f"{number}: not clean after the next run")
        if left := orphans(folder):
            failures.append(f"{number}: still running: {left}")
        shutil.rmtree(folder / f"kill-{number}")
    return {
        "kills": count,
        "while_it_ran": hits,
        "whole_seconds": round(whole, 3),
        "next": seconds,
        "failures": failures,
    }


def orphans(folder: Path) -> list[str]:
    """Processes that name a folder in their command line, other than this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in line:
                found.append(line[:200])
    return found


def flips(make: Any, count: int, dice: random.Random, folder: Path) -> dict[str, Any]:
    """Bytes flipped all over a store; nothing of it may be shipped."""
    failures, flipped = [], 0
    build = make(folder / "flips")
    code, answer, err = build.finish(build.start())
    if code:
        return {"failures": [f"undisturbed: {err[-500:]}"]}
    truth, store = identity(answer), Store.at(build.store)
    for number in range(count):
        paths = sorted(path for path in store.root.rglob("*") if path.is_file() and path.parent.name != "locks")
        for path in dice.sample(paths, dice.randint(1, len(paths))):
            content = bytearray(path.read_bytes())
            if content:
                content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
                mode = path.stat().st_mode
                path.chmod(0o644)
                path.write_bytes(content)
                path.chmod(mode)
                flipped += 1
        shutil.rmtree(build.folder / "dist", ignore_errors=True)
        code, answer, err = build.finish(build.start())
        if code or identity(answer) != truth:
            failures.append(f"{number}: {err[-500:] if code else identity(answer)}")
        verify(store)
        code, answer, err = build.finish(build.start())
        if code or identity(answer) != truth or not verify(store).is_clean:
            failures.append(f"{number}: after store verify: {err[-500:]}")
    return {"rounds": count, "files": flipped, "failures": failures}


def crowd(count: int, folder: Path) -> dict[str, Any]:
    """Builds of overlapping recipes that share one store."""
    builds = [
        chain(folder / "crowd", "--recipes", *RECIPES[index % 8 :], *RECIPES[: index % 8], "--jobs", str(1 + index % 3))
        for index in range(count)
    ]
    done = [(build, build.start()) for build in builds]
    answers = [build.finish(process) for build, process in done]
    failures = [err[-500:] for code, _, err in answers if code]
    if len({json.dumps(answer, sort_keys=True) for _, answer, _ in answers}) > 1:
        failures.append("the builds do not agree")
    runs = [len(path.read_text()) for path in (folder / "crowd" / "diary").iterdir()]
    store = Store.at(folder / "crowd" / "store")
    if not verify(store).is_clean:
        failures.append("the store is not clean")
    return {
        "builds": count,
        "stages": len(runs),
        "runs": sum(runs),
        "records": statistics(store).records,
        "failures": failures,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=50, help="of cheap stages")
    parser.add_argument("--real-kills", type=int, default=10, help="of the real command")
    parser.add_argument("--flips", type=int, default=50, help="rounds, with cheap stages")
    parser.add_argument("--real-flips", type=int, default=3, help="rounds, with the real command")
    parser.add_argument("--crowd", type=int, default=8, help="builds at once")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    dice, results = random.Random(options.seed), {"seed": options.seed}
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        model = make_model("bert", "sentence-embedding", folder / "model")
        parts = {
            "kills": lambda: kills(chain, options.kills, dice, folder / "kills"),
            "real_kills": lambda: kills(lambda at: real(at, model), options.real_kills, dice, folder / "real-kills"),
            "flips": lambda: flips(chain, options.flips, dice, folder / "flips"),
            "real_flips": lambda: flips(lambda at: real(at, model), options.real_flips, dice, folder / "real-flips"),
            "crowd": lambda: crowd(options.crowd, folder),
        }
        for part, call in parts.items():
            results[part] = call()
            sys.stderr.write(f"{part}: {len(results[part]['failures'])} failures\n")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    return 1 if any(part["failures"] for part in results.values() if isinstance(part, dict)) else 0


if __name__ == "__main__":
    sys.exit(main())
