"""What a server says of itself: GPUs while a load is on, and what its response cache had."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from builder.sweep.server_facts import GpuWatch, cache_remark, processor_seconds, processor_share, step_times
from builder.tools import hardware

if TYPE_CHECKING:
    from collections.abc import Iterator

GPU = """\
nv_gpu_utilization{{gpu_uuid="GPU-1"}} {0}
nv_gpu_memory_used_bytes{{gpu_uuid="GPU-1"}} {1}
nv_gpu_power_usage{{gpu_uuid="GPU-1"}} 70.5
"""


@contextmanager
def metrics(pages: list[str]) -> Iterator[tuple[str, list[str]]]:
    """A metrics endpoint that tells these pages in turn, the last one for ever; its address, and what it told."""
    told: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.append(pages[min(len(told), len(pages) - 1)])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(told[-1].encode())

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}", told
        finally:
            server.shutdown()
            thread.join()


def wait_for(told: list[str], count: int) -> None:
    deadline = time.monotonic() + 10
    while len(told) < count and time.monotonic() < deadline:
        time.sleep(0.005)


def test_gpus_are_looked_at_while_a_load_is_on() -> None:
    with metrics([GPU.format(0.0, 1e9), GPU.format(0.9, 3e9), GPU.format(0.7, 2e9)]) as (address, told):
        with GpuWatch(address, every_seconds=0.02) as watch:
            wait_for(told, 2)
            began = time.time_ns()
            wait_for(told, 5)
            ended = time.time_ns()
        under_load = watch.during([(began, ended)])["GPU-1"]
        assert under_load["utilization"] == pytest.approx(0.7, abs=0.1)  # the first look found it idle
        assert under_load["memory_mb"] in {2000.0, 3000.0}
        whole = watch.during([])["GPU-1"]
        assert whole["memory_mb"] == 3000.0
        assert 0 < whole["utilization"] < under_load["utilization"]


def test_a_server_without_a_gpu_is_asked_once() -> None:
    with metrics(["nv_cpu_utilization 0.5\n"]) as (address, told):
        with GpuWatch(address, every_seconds=0.001) as watch:
            wait_for(told, 1)
            time.sleep(0.05)
        assert watch.during([]) == {}
        assert len(told) == 1


def reading(inferences: int, requests: int, hits: int, misses: int) -> dict[str, object]:
    counts = {"success": requests, "cache_hit": hits, "cache_miss": misses, "compute_infer": inferences}
    stats = {name: {"count": str(count), "ns": str(count * 1_000_000)} for name, count in counts.items()}
    return {"inference_count": str(inferences), "execution_count": str(inferences), "inference_stats": stats}


def test_hits_of_the_response_cache_are_told() -> None:
    always = step_times(reading(16, 32, 16, 16), reading(16, 132, 116, 16))
    assert always is not None, "nothing was computed, but the model was asked"
    assert (always.inferences, always.cache_hits, always.hit_rate, always.compute_infer_ms) == (0, 100, 1.0, 0.0)
    sometimes = step_times({}, reading(50, 200, 150, 50))
    assert sometimes is not None
    assert (sometimes.hit_rate, sometimes.compute_infer_ms) == (0.75, 0.25)  # for each request, hits among them
    plain = step_times({}, reading(50, 50, 0, 0))
    assert plain is not None
    assert plain.hit_rate == 0
    assert step_times(reading(5, 5, 0, 0), reading(5, 5, 0, 0)) is None
    assert cache_remark({"tokenize": plain, "model": always}, 16) == (
        "100% of the requests were answered from the response cache: all of them are repeats of 16"
    )
    assert cache_remark({"tokenize": plain}, 16) == cache_remark({}, 16) == ""


def test_the_processor_time_of_a_group_is_that_of_all_in_it() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint('done', flush=True)\ntime.sleep(60)"
    fork = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])"
    with subprocess.Popen([sys.executable, "-c", fork], start_new_session=True, stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            parent.stdout.readline()
            used = processor_seconds(parent.pid)
        finally:
            os.killpg(parent.pid, signal.SIGKILL)
    assert 0.25 < used < 5
    assert processor_seconds(1 << 23) == 0, "there is no such process"


def test_what_a_request_takes_is_the_share_at_a_rate() -> None:
    assert processor_share(2.0, 100, 50) == pytest.approx(1 / hardware.cpus())
    assert processor_share(2.0, 0, 50) is None
