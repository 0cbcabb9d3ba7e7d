"""One row: a model repository, a server of its own, answers compared with the reference, and perf_analyzer."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.gpu import client
from benchmarks.gpu.matrix import MAX_BATCH_SIZE, PROFILES
from builder.errors import MachineError, ServerError
from builder.tools import perf_analyzer, templates, triton_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.gpu.matrix import Row
    from benchmarks.gpu.outfit import Outfit
    from builder.tools.perf_analyzer import Windows
    from builder.tools.toolchain import Toolchain
    from builder.tools.triton_server import Server

_HERE = Path(__file__).parent
_KEPT = ("concurrency", "status", "throughput_per_second", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "requests", "detail")
# Smallest cosine over the samples: plain, and with the samples' mean taken away. Random weights give all texts nearly
# one direction, so the plain one alone would accept another text's answer.
TOLERANCES = {"fp32": (0.99999, 0.999), "fp16": (0.999, 0.99)}


@dataclass(frozen=True)
class Files:
    """What a row is served from; those that its runtime does not need may be missing."""

    weights: Path
    onnx: Path
    plan: Path


@dataclass(frozen=True)
class Samples:
    """What is asked, and what PyTorch answers in fp32."""

    ids: np.ndarray  # INT64 [samples, tokens]
    expected: np.ndarray  # FP32 [samples, hidden]

    def request(self, index: int) -> dict[str, np.ndarray]:
        """One sample, without a batch axis."""
        return {"input_ids": self.ids[index], "attention_mask": np.ones_like(self.ids[index])}


@dataclass(frozen=True)
class Load:
    """How perf_analyzer is run."""

    toolchain: Toolchain
    folder: Path  # for its files
    concurrencies: tuple[int, ...]
    windows: Windows


def config(row: Row, files: Files, *, kind: str, cpu: bool) -> str:
    """The row's ``config.pbtxt``, complete: the server fills in nothing."""
    tokens, hidden = row.case.sequence, row.case.hidden
    lines = [
        f'backend: "{row.runtime.backend}"',
        f"max_batch_size: {MAX_BATCH_SIZE}",
        *(
            f'input {{ name: "{name}" data_type: TYPE_INT64 dims: [{tokens}] }}'
            for name in ("input_ids", "attention_mask")
        ),
        f'output {{ name: "EMBEDDING" data_type: TYPE_FP32 dims: [{hidden}] }}',
    ]
    profiles = ""
    if row.runtime.backend == "tensorrt":  # the other one always has all of them
        profiles = f" profile: {json.dumps([str(index) for index in range(len(PROFILES))])}"
    if row.runtime.backend.startswith("tensorrt"):
        lines.append("optimization { cuda { graphs: true } }")
    lines.append(f"instance_group {{ count: {row.variant.instances} kind: {kind}{profiles} }}")
    if row.variant.batching:
        lines.append("dynamic_batching { }")
    lines += [_warmup(size, tokens) for size in range(1, MAX_BATCH_SIZE + 1 if row.variant.batching else 2)]
    for key, value in _parameters(row, files, cpu=cpu).items():
        lines.append(f'parameters {{ key: "{key}" value: {{ string_value: {json.dumps(value)} }} }}')
    return "\n".join(lines) + "\n"


def _warmup(size: int, tokens: int) -> str:
    """One run of a batch size, on each instance: graphs are captured and kernels chosen while it loads."""
    inputs = "".join(
        f' inputs {{ key: "{name}" value: {{ data_type: TYPE_INT64 dims: [{tokens}] zero_data: true }} }}'
        for name in ("input_ids", "attention_mask")
    )
    return f'model_warmup {{ name: "{size}" batch_size: {size}{inputs} }}'


def _parameters(row: Row, files: Files, *, cpu: bool) -> dict[str, str]:
    if row.runtime.backend == "onnxruntime":
        return {"intra_op_thread_count": "1"} if cpu else {}
    if row.runtime.backend != "python":
        return {}
    return {
        "size": row.case.model,
        "weights": str(files.weights.absolute()),
        "precision": "fp32" if cpu else row.runtime.precision,
        "sequence": str(row.case.sequence),
        "threads": "1",
        "graphs": "true" if row.runtime.name == "pt16" else "false",
    }


def write_repository(folder: Path, row: Row, files: Files, *, kind: str, cpu: bool) -> str:
    """A repository with the row's model alone; returns the model's name."""
    shutil.rmtree(folder, ignore_errors=True)
    version = folder / row.name / "1"
    version.mkdir(parents=True)
    (folder / row.name / "config.pbtxt").write_text(config(row, files, kind=kind, cpu=cpu), encoding="utf-8")
    if row.runtime.backend == "python":
        common = templates.folder() / "backends/common/tritonsmith_batches.py"
        for path in (_HERE / "torch_model/model.py", _HERE / "bert.py", common):
            shutil.copy(path, version / path.name)
    elif row.runtime.backend == "onnxruntime":
        for path in files.onnx.parent.iterdir():
            (version / path.name).hardlink_to(path)
    else:
        (version / "model.plan").hardlink_to(files.plan)
    return row.name


@contextmanager
def serve(row: Row, files: Files, outfit: Outfit, work: Path, *, cpu: bool) -> Iterator[tuple[Server, dict[str, Any]]]:
    """A server with the row's model; and how it was loaded.

    A server that was built without GPU support refuses GPU instances; its Python processes can use the GPU all the
    same, so that is tried second, and recorded.

    Raises:
        ServerError: the model does not load.
    """
    refused: list[ServerError] = []
    with ExitStack() as stack:
        for kind in ("KIND_CPU",) if cpu else ("KIND_GPU", "KIND_CPU"):
            model = write_repository(work / "repository", row, files, kind=kind, cpu=cpu)
            began = time.monotonic()
            try:
                server = stack.enter_context(_server(work / "repository", model, outfit))
            except ServerError as error:
                refused.append(error)
                continue
            yield server, {"instance_kind": kind, "load_seconds": round(time.monotonic() - began, 1)}
            return
        raise refused[0]


def _server(repository: Path, model: str, outfit: Outfit) -> AbstractContextManager[Server]:
    # Its configs are not completed: Triton would add dynamic batching to the rows that have none.
    options = triton_server.Options(complete_config=False, start_seconds=180)
    return triton_server.serve(
        repository, toolchain=outfit.toolchain, environment=outfit.environment, load=[model], options=options
    )


def check(answers: np.ndarray, expected: np.ndarray, precision: str) -> dict[str, Any]:
    """Compares embeddings, [samples, hidden] each, and the control: every sample with its neighbour's answer."""
    plain, centred = _cosines(answers, expected)
    control = _cosines(np.roll(answers, 1, axis=0), expected)
    limits = TOLERANCES[precision]
    right = plain >= limits[0] and centred >= limits[1]
    told_apart = control[0] < limits[0] or control[1] < limits[1]
    why = "" if right else f"at least {limits[0]} and, centred, {limits[1]}"
    return {
        "within": right and told_apart,
        "why": why if told_apart else "another text's answer would pass, too",
        "smallest_cosine": round(plain, 7),
        "smallest_centred_cosine": round(centred, 7),
        "control": [round(value, 7) for value in control],
        "tolerance": list(limits),
    }


def _cosines(answers: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    def smallest(left: np.ndarray, right: np.ndarray) -> float:
        lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
        return float(((left * right).sum(1) / np.maximum(lengths, 1e-12)).min())

    left, right = answers.astype(np.float64), expected.astype(np.float64)
    mean = right.mean(0)
    return smallest(left, right), smallest(left - mean, right - mean)


def ask(address: str, model: str, samples: Samples) -> np.ndarray:
    """The model's answers: the first half one by one, the rest as one batch."""
    half = len(samples.ids) // 2
    parts = [slice(index, index + 1) for index in range(half)] + [slice(half, None)]
    answers = []
    for part in parts:
        ids = samples.ids[part]
        asked = client.infer(address, model, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        answers.append(asked["EMBEDDING"])
    return np.concatenate(answers)


def measure(
    server: Server,
    model: str,
    samples: Samples,
    load: Load,
    go_on: Callable[[dict[str, Any]], bool],
) -> list[dict[str, Any]]:
    """perf_analyzer's points, concurrency by concurrency, while ``go_on`` says so."""
    rows = [samples.request(index) for index in range(len(samples.ids))]
    points: list[dict[str, Any]] = []
    for concurrency in load.concurrencies:
        point = _point(server, model, rows, load, concurrency)
        if point["status"] == "unstable":
            longer = replace(load.windows, interval_milliseconds=2 * load.windows.interval_milliseconds)
            point = _point(server, model, rows, replace(load, windows=longer), concurrency)
        points.append(point)
        if not go_on(point):
            break
    return points


def _point(
    server: Server, model: str, rows: list[dict[str, np.ndarray]], load: Load, concurrency: int
) -> dict[str, Any]:
    """One measurement, and how large the batches were that formed meanwhile.

    Raises:
        ServerError: the server has died.
    """
    before = _counts(server, model)
    try:
        point = perf_analyzer.measure(
            load.toolchain,
            address=server.grpc_address,
            model=model,
            rows=rows,
            concurrency=concurrency,
            folder=load.folder / f"{model}-{concurrency}",
            windows=load.windows,
        )
    except MachineError as error:
        server.check()
        return {"concurrency": concurrency, "status": "failed", "detail": error.message}
    taken = {key: value for key, value in asdict(point).items() if key in _KEPT}
    return {**taken, "mean_batch": _mean_batch(before, _counts(server, model))}


def _counts(server: Server, model: str) -> tuple[int, int]:
    found = client.statistics(server.http_address, model)
    return int(found.get("inference_count", 0)), int(found.get("execution_count", 0))


def _mean_batch(before: tuple[int, int], after: tuple[int, int]) -> float | None:
    executions = after[1] - before[1]
    return round((after[0] - before[0]) / executions, 2) if executions else None
