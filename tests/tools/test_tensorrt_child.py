"""What the process tells that compiles; what it makes is tested in ``tests/engine``."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from builder.core.digest import digest_file
from builder.errors import ModelError
from builder.tools import tensorrt, tensorrt_child
from builder.tools.tensorrt import load
from builder.tools.tensorrt_build import EngineOptions, Order
from builder.tools.tensorrt_log import Log, Progress, monitor
from tests.engine.graphs import PROFILES, WIDTH, encoder

if TYPE_CHECKING:
    from pathlib import Path


def test_progress_is_told_while_the_library_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_child, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(tensorrt_child, "NEXT_SECONDS", 0.0)
    progress, done = Progress(), threading.Event()
    told: list[dict[str, Any]] = []
    watch = monitor(load("tensorrt-rtx"), progress)
    steps = [
        lambda: watch.phase_start("Timing Tactics", "", 3),
        lambda: watch.step_complete("Timing Tactics", 1),
        lambda: watch.phase_start("One Step", "Timing Tactics", 1),
        lambda: watch.phase_finish("One Step"),
        lambda: watch.phase_finish("Timing Tactics"),
        done.set,
    ]

    def write(answer: dict[str, Any]) -> None:
        told.append(answer)
        steps[len(told) - 1]()

    tensorrt_child._tell(progress, done, write)
    assert [answer["at"] for answer in told] == [
        "reading the model",
        "timing tactics, 0 of 3",
        "timing tactics, 2 of 3",
        "one step",
        "timing tactics, 2 of 3",
        "reading the model",
    ]


def test_errors_are_kept_and_the_rest_is_not() -> None:
    library = load("tensorrt-rtx")
    log = Log(library)
    library.Builder(log.logger).create_network(0)
    log.logger.log(library.ILogger.Severity.WARNING, "seen")
    log.logger.log(library.ILogger.Severity.ERROR, "failed")
    assert log.errors == ["failed"]


@pytest.mark.filterwarnings("ignore:.*iming.*:DeprecationWarning")
def test_what_tensorrt_itself_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the way of the runtime tensorrt, with the library that is here: it builds for the GPUs that it likes."""
    monkeypatch.setitem(tensorrt._MODULES, "tensorrt", "tensorrt_rtx_bindings")
    model = encoder(tmp_path / "model", "fp32")
    options = EngineOptions(workspace_mib=512, optimization_level=4, hardware_compatibility="ampere_plus", tf32=True)
    path, cache = model.files["model.onnx"].path, tmp_path / "timing" / "t.cache"
    order = asdict(Order(path, "tensorrt", "8.6", PROFILES[:1], options, cache)) | {"plan": tmp_path / "plan"}
    built = tensorrt_child.compile_plan(order | {"model": str(path)}, Progress())
    assert built["flags"] == ["TF32"]
    assert built["outputs"] == [["EMBEDDING", "FP32", [-1, WIDTH]]]
    assert built["timing_cache"] == {"digest": digest_file(cache), "bytes": cache.stat().st_size}
    assert (tmp_path / "plan").stat().st_size > 10_000


def test_gpus_that_the_library_has_no_name_for() -> None:
    library = load("tensorrt-rtx")
    assert tensorrt_child._aim(library, "12.1") == library.ComputeCapability.SM121
    with pytest.raises(ModelError, match=r"compute capability 9.0: TensorRT-RTX 1.7.1.116 compiles for .*SM120"):
        tensorrt_child._aim(library, "9.0")
