"""The guided search against Model Analyzer's quick search: the same model, server build, load generator and limits.

Model Analyzer runs as it is on a machine of its own: local mode, its own server for each config. Two small programs
stand for what it looks for: ``tritonserver`` with the environment that the embedded one needs, and the real
perf_analyzer. Then the guided search gets half of its time, its winner's p99 as the bound, and the same limits.
"""

from __future__ import annotations

import csv
import json
import shlex
import socket
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from benchmarks import environments, machine
from benchmarks.paths import RECIPE, scratch
from benchmarks.progress import say
from benchmarks.report import Comparison, Goal, Result
from benchmarks.sweep import Searcher, figures, remeasured, task
from benchmarks.traffic import long_texts
from builder.config.folder import write_config
from builder.errors import MachineError
from builder.settings import environment as process_environment
from builder.settings import settings
from builder.sweep import space
from builder.sweep.bench import Bench
from builder.sweep.load import Load
from builder.sweep.objective import Constraints
from builder.sweep.profiles import between
from builder.sweep.record import Record
from builder.sweep.setting import Setting
from builder.sweep.subject import Options as SubjectOptions
from builder.sweep.subject import open_subject
from builder.tools import archive, perf_analyzer, process, python_env, releases, toolchain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from benchmarks.options import Options
    from benchmarks.sweep import Candidate, Run
    from builder.sweep.point import Point
    from builder.sweep.setting import Value
    from builder.sweep.subject import Subject

ABOUT = (
    "all-MiniLM-L6-v2 as ONNX on the embedded tritonserver, token ids in, 128 a request. Peer: `model-analyzer "
    "profile` 1.58.0 in quick mode, local, with the real perf_analyzer (windows of 1.5 s), up to 2 instances, batches "
    "of 32 and 16 requests at a time, one thread an instance. tritonsmith: the guided search over the same, and "
    "threads, queue delays and no batching; bound on p99: that of the peer's winner; half of the peer's time. Both "
    "winners were then measured again, in turn, on one server."
)
_NAME = "model-analyzer"
_MODEL = "minilm"
_INSTANCES, _BATCH, _CONCURRENCY = 2, 32, 16
_KNOBS: dict[str, list[Value]] = {
    space.COUNT: [1, 2],
    space.THREADS: [1, 2],
    space.BATCHING: [False, True],
    space.MAX_BATCH_SIZE: [2, 4, 8, 16, 32],
    space.DELAY: [0, 500, 2000],
}
_LOADS = tuple(Load(concurrency=each) for each in between((1, _CONCURRENCY)))
_TRITON = "25.09"
_ROUNDS = 5
_PROFILE_SECONDS = 3600.0
_FINALISTS_SECONDS = 25.0  # what comes after the budget
_QUIET = "end what else runs on this machine, or ask for more --rounds"


@dataclass(frozen=True, slots=True)
class Peer:
    """What Model Analyzer found. The p99 is its own, in ms."""

    candidate: Candidate
    throughput: float
    p99_ms: float
    seconds: float
    measurements: int
    rows: tuple[Mapping[str, str], ...]


def run(name: str, options: Options) -> Result:
    """Both searches, then both winners in turn.

    Raises:
        MachineError: one of them found nothing.
    """
    facts = machine.describe()
    rounds = 1 if options.quick else options.rounds or _ROUNDS
    with scratch() as folder:
        subject = _subject(folder)
        peer = _profile(subject, folder, quick=options.quick)
        budget = max(10.0, peer.seconds / 2 - _FINALISTS_SECONDS)
        base = task(subject, _KNOBS, _LOADS, Constraints(p99_ms=peer.p99_ms))
        with Record.open(folder / "record.sqlite") as record, Bench(subject) as bench:
            ours = Searcher(subject, bench, record).search("guided", replace(base, budget_seconds=budget))
            if ours.candidate is None:
                raise MachineError(f"no setting was stable with p99 below {peer.p99_ms:g} ms")
            again = remeasured(bench, [ours.candidate, peer.candidate], rounds)
    facts["versions"] |= {"model-analyzer": environments.versions(_NAME)["triton-model-analyzer"]}
    facts["versions"] |= {
        "tritonserver": toolchain.SERVER_VERSION,
        "perf_analyzer": toolchain.PERF_ANALYZER_VERSION,
    }
    said = {
        "rounds": rounds,
        "settings": len(base.settings),
        "tritonsmith": f"{_shown(ours.candidate)}, {len(ours.found.points)} measurements",
        "peer": f"{_shown(peer.candidate)}, {peer.measurements} measurements, by itself {peer.throughput:.1f}/s "
        f"and p99 {peer.p99_ms:.1f} ms",
    }
    rows = tuple(_rows(ours, peer, again))
    return Result(name, "Guided search and Model Analyzer", ABOUT, rows, facts, said, tuple(map(dict, peer.rows)))


def _subject(folder: Path) -> Subject:
    """The archive's model alone, as anybody's repository: one instance with one thread, no warm-up."""
    whole = open_subject(RECIPE, SubjectOptions(out=folder))
    archive.unpack(whole.path, folder / "archive")
    model = folder / "repository" / _MODEL
    (folder / "repository").mkdir()
    (folder / "archive" / whole.main).rename(model)
    parameters = {**whole.configs[whole.main]["parameters"], "intra_op_thread_count": {"string_value": "1"}}
    config = {**whole.configs[whole.main], "name": _MODEL, "parameters": parameters, "model_warmup": []}
    write_config(config, model / "config.pbtxt", _TRITON)
    tokenizer = folder / "archive" / f"{whole.name}-tokenize" / "1" / "tokenizer.json"
    rows = long_texts(tokenizer, [tensor["name"] for tensor in config["input"]])
    samples = folder / "samples.jsonl"
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return open_subject(folder / "repository", SubjectOptions(samples=samples, triton=_TRITON))


def _profile(subject: Subject, folder: Path, *, quick: bool) -> Peer:
    """Runs Model Analyzer.

    Raises:
        MachineError: it failed, or measured nothing.
    """
    program = environments.environment(_NAME) / "bin" / "model-analyzer"
    config = folder / "model-analyzer.yaml"
    config.write_text(json.dumps(_config(subject, folder, quick=quick)), encoding="utf-8")  # JSON is YAML
    say("sweep-peer: model-analyzer profile, quick mode")
    began = time.monotonic()
    process.run(
        [program, "profile", "--config-file", config],
        what="model-analyzer",
        timeout_seconds=_PROFILE_SECONDS,
        cwd=folder,
    )
    seconds = time.monotonic() - began
    found = list(folder.glob("export/results/metrics-model-inference.csv"))
    rows = list(csv.DictReader(found[0].read_text(encoding="utf-8").splitlines())) if found else []
    if not rows:
        raise MachineError("model-analyzer measured nothing")
    best = max(rows, key=lambda row: float(row["Throughput (infer/sec)"]))
    say(f"sweep-peer: {len(rows)} measurements in {seconds:.0f} s; best {best}")
    return Peer(
        _candidate(best),
        float(best["Throughput (infer/sec)"]),
        float(best["p99 Latency (ms)"]),
        seconds,
        len(rows),
        tuple(rows),
    )


def _config(subject: Subject, folder: Path, *, quick: bool) -> dict[str, Any]:
    data = folder / "input.json"
    perf_analyzer.write_input_data(subject.rows, data)
    server, client = _programs(folder)
    http, grpc, metrics = _free_ports(3)
    flags: dict[str, Any] = {"input-data": str(data), "measurement-interval": 1500, "max-trials": 4}
    flags |= {"measurement-interval": 500, "stability-percentage": 500} if quick else {}
    limits = {"instance_count": _INSTANCES, "model_batch_size": 2 if quick else _BATCH}
    return {
        "model_repository": str(subject.path),
        "profile_models": {subject.name: {"cpu_only": True, "perf_analyzer_flags": flags}},
        "run_config_search_mode": "quick",
        "run_config_search_max_concurrency": 4 if quick else _CONCURRENCY,
        **{f"run_config_search_max_{name}": limit for name, limit in limits.items()},
        "triton_launch_mode": "local",
        "triton_server_path": str(server),
        "perf_analyzer_path": str(client),
        "triton_http_endpoint": f"localhost:{http}",
        "triton_grpc_endpoint": f"localhost:{grpc}",
        "triton_metrics_url": f"http://localhost:{metrics}/metrics",
        "client_protocol": "grpc",
        "gpus": [],
        "output_model_repository_path": str(folder / "variants"),
        "override_output_model_repository": True,
        "checkpoint_directory": str(folder / "checkpoints"),
        "export_path": str(folder / "export"),
        "inference_output_fields": [
            "model_name", "concurrency", "model_config_path", "instance_group", "max_batch_size",
            "perf_throughput", "perf_latency_p99",
        ],
    }  # fmt: skip


def _programs(folder: Path) -> tuple[Path, Path]:
    """What it takes for ``tritonserver``, which ends with it, and ``perf_analyzer``."""
    cache = settings().cache
    tools = toolchain.install(cache)
    version = releases.release(_TRITON).onnxruntime
    assert version is not None
    environment = python_env.python_environment(tools, cache, version)
    server = [
        *("setpriv", "--pdeathsig", "KILL"),  # else a server is left behind where Model Analyzer is ended
        str(tools.tritonserver),
        f"--backend-directory={toolchain.backends(tools, environment)}",
        f"--cache-directory={tools.caches}",
        f"--backend-config=python,shm-region-prefix-name=tritonsmith-peer-{time.monotonic_ns()}-",
    ]
    libraries = {
        "tritonserver": f"{environment / 'lib-python'}:{tools.libraries}",
        "perf_analyzer": str(tools.perf_libraries),
    }
    path = f"{environment / 'bin'}:{process_environment().get('PATH', '')}"
    made = []
    for name, command in (("tritonserver", server), ("perf_analyzer", [str(tools.perf_analyzer)])):
        program = folder / name
        program.write_text(
            f"#!/bin/sh\nexport LD_LIBRARY_PATH={shlex.quote(libraries[name])} PATH={shlex.quote(path)}\n"
            f'exec {shlex.join(command)} "$@"\n',
            encoding="utf-8",
        )
        program.chmod(0o755)
        made.append(program)
    return made[0], made[1]


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def _candidate(row: Mapping[str, str]) -> Candidate:
    """A row of its table as a setting of ours: ``2:CPU`` instances, its batch size; batching without a delay."""
    count = int(row["Instance Group"].partition(":")[0])
    size = int(row["Max Batch Size"])
    knobs: dict[str, Value] = {space.COUNT: count, space.THREADS: 1, space.MAX_BATCH_SIZE: size, space.BATCHING: True}
    return Setting.of(knobs | ({space.DELAY: 0} if size > 1 else {})), Load(concurrency=int(row["Concurrency"]))


def _rows(ours: Run, peer: Peer, again: dict[Candidate, list[Point]]) -> Iterator[Comparison]:
    """What is compared.

    Raises:
        MachineError: in no round both winners were stable.
    """
    assert ours.candidate is not None
    sides = (ours.candidate, peer.candidate)
    for figure, what, unit, large in (
        ("throughput", "throughput of the winner", "inferences/s", True),
        ("p99_ms", "p99 of the winner", "ms", False),
    ):
        mine, theirs = figures(again, sides, figure)
        if not mine:
            told = "; ".join(f"{_shown(side)}: {_statuses(again[side])}" for side in dict.fromkeys(sides))
            raise MachineError(f"in none of the rounds both winners were stable: {told}", mend=_QUIET)
        dropped = len(again[ours.candidate]) - len(mine)
        yield Comparison(
            what, unit, _NAME, mine, theirs, larger_is_better=large, goal=Goal("ratio", 1.0), dropped_rounds=dropped
        )
    yield Comparison("time", "s", _NAME, (ours.seconds,), (peer.seconds,), goal=Goal("ratio", 2.0))


def _statuses(points: Sequence[Point]) -> str:
    return ", ".join(f"{point.status} ({point.reason})" if point.reason else point.status for point in points)


def _shown(candidate: Candidate) -> str:
    return f"{candidate[0].label}, {candidate[1].label}"
