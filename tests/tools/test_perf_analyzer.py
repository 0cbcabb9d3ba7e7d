"""The real perf_analyzer against a real server: models that are steady, that stagger, and that refuse."""

import base64
import json

import numpy as np
import pytest

from builder.errors import MachineError
from builder.tools import triton_server
from builder.tools.perf_analyzer import Windows, measure, read_point, write_input_data
from builder.tools.process import Completed
from builder.tools.toolchain import Toolchain

HEADER = (
    "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
    "Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency\n"
)
STDOUT = (
    "Request concurrency: 2\n"
    "  Pass [1] throughput: 173.129 infer/sec. Avg latency: 11502 usec (std 3165 usec). \n"
    "  Pass [2] throughput: 153.142 infer/sec. Avg latency: 12937 usec (std 3310 usec). \n"
    "  Client: \n    Request count: 277\n    Avg client overhead: 0.25%\n"
)

MODEL = """
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.calls = 0

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        self.calls += 1
        text, pair = (pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in ("TEXT", "TEXT_PAIR"))
        if text.shape != (1, 1) or (text[0, 0].decode(), pair[0, 0].decode()) not in EXPECTED:
            return pb_utils.InferenceResponse([], pb_utils.TritonError(f"not what was sent: {text} {pair}"))
        if KIND == "refusing" and self.calls > 20:
            return pb_utils.InferenceResponse([], pb_utils.TritonError("enough of this"))
        # Staggering: each second of the clock another speed.
        time.sleep(0.002 if KIND != "staggering" else 0.01 + 0.05 * (int(time.time() * 2.5) % 3))
        return pb_utils.InferenceResponse([pb_utils.Tensor("LENGTH", np.float32([[len(text[0, 0])]]))])
"""
CONFIG = """
backend: "python"
max_batch_size: 8
input [{{name: "TEXT", data_type: TYPE_STRING, dims: [1]}}, {{name: "TEXT_PAIR", data_type: TYPE_STRING, dims: [1]}}]
output [{{name: "LENGTH", data_type: TYPE_FP32, dims: [1]}}]
instance_group [{{count: 1, kind: KIND_CPU}}]
name: "{kind}"
"""
ROWS = [
    {"TEXT": 'He said "no":\n日本', "TEXT_PAIR": "zwei"},
    {"TEXT": "", "TEXT_PAIR": "\\u0041 \t"},
    {"TEXT": "x" * 10_000, "TEXT_PAIR": "🙂"},
]


@pytest.fixture(scope="module")
def server(toolchain, server_environment, tmp_path_factory):
    repository = tmp_path_factory.mktemp("repository")
    expected = {(row["TEXT"], row["TEXT_PAIR"]) for row in ROWS}
    kinds = ("steady", "staggering", "refusing")
    for kind in kinds:
        (repository / kind / "1").mkdir(parents=True)
        (repository / kind / "config.pbtxt").write_text(CONFIG.format(kind=kind))
        (repository / kind / "1/model.py").write_text(f"KIND = {kind!r}\nEXPECTED = {expected!r}\n{MODEL}")
    with triton_server.serve(repository, toolchain=toolchain, environment=server_environment, load=kinds) as running:
        yield running


@pytest.fixture
def run(server, toolchain, tmp_path):
    def run(model, concurrency=1, **windows):
        return measure(
            toolchain,
            address=server.grpc_address,
            model=model,
            rows=ROWS,
            concurrency=concurrency,
            folder=tmp_path / "perf",
            windows=Windows(**windows),
        )

    return run


@pytest.mark.triton
def test_a_steady_model_is_measured_with_the_texts_that_were_given(run, tmp_path):
    point = run("steady", 2, interval_milliseconds=300, trials=3, stability_percent=500)
    assert (point.concurrency, point.status, point.detail) == (2, "stable", "")
    assert 0 < point.p50_ms <= point.p90_ms <= point.p95_ms <= point.p99_ms
    assert 0 < point.throughput_per_second < 600  # one instance that sleeps 2 ms
    assert point.times_ms["server_compute_infer_ms"] >= 2
    assert point.requests > 0
    assert len(point.windows_per_second) == 3
    assert "Pass [1]" in (tmp_path / "perf/output.txt").read_text()


@pytest.mark.triton
def test_a_staggering_model_is_unstable_and_no_crash(run):
    point = run("staggering", interval_milliseconds=400, trials=3, stability_percent=0.5)
    assert point.status == "unstable"
    assert point.p99_ms is point.throughput_per_second is None
    assert len(point.windows_per_second) == len(point.windows_latency_ms) == 3
    assert "Failed to obtain stable measurement" in point.detail


@pytest.mark.triton
def test_a_model_that_refuses_is_a_failed_point_with_its_words(run):
    point = run("refusing", interval_milliseconds=400, trials=3)
    assert point.status == "failed"
    assert "enough of this" in point.detail


@pytest.mark.triton
def test_a_model_that_is_not_there_is_a_failed_point(run):
    point = run("nobody", interval_milliseconds=400, trials=3)
    assert point.status == "failed"
    assert "unknown model: 'nobody'" in point.detail


def test_a_program_that_is_missing_is_an_error_of_the_machine(toolchain, tmp_path):
    from dataclasses import replace

    with pytest.raises(MachineError, match="perf_analyzer"):
        measure(
            replace(toolchain, root=tmp_path), address="", model="a", rows=ROWS, concurrency=1, folder=tmp_path / "perf"
        )


def test_texts_become_tensors_of_shape_1(tmp_path):
    write_input_data([{"TEXT": "a\0b"}], tmp_path / "input.json")
    assert json.loads((tmp_path / "input.json").read_text()) == {"data": [{"TEXT": {"content": ["ab"], "shape": [1]}}]}


def test_bytes_and_arrays_go_as_they_are_sent(tmp_path):
    texts = np.array([b"a", b"bc"], dtype=object)
    row = {"IMAGE": b"\xff\0", "WEIGHT": np.array([[0.5, 2]], np.float32), "TEXTS": texts}
    write_input_data([row], tmp_path / "input.json")
    (sent,) = json.loads((tmp_path / "input.json").read_text())["data"]
    contents = {name: (base64.b64decode(tensor["b64"]), tensor["shape"]) for name, tensor in sent.items()}
    assert contents == {
        "IMAGE": (b"\2\0\0\0\xff\0", [1]),
        "WEIGHT": (row["WEIGHT"].tobytes(), [1, 2]),
        "TEXTS": (b"\1\0\0\0a\2\0\0\0bc", [2]),
    }


def test_microseconds_become_milliseconds(tmp_path):
    (tmp_path / "report.csv").write_text(HEADER + "2,153.476,8,629,2818,29,8813,714,2,12955,17028,19111,20595\n")
    (tmp_path / "a-model_v1.report.csv").write_text(
        "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
        "Server Compute Infer,Server Compute Output,Client Recv\n2,150.5,0,0,2102,9,146,156,0\n"
    )
    point = read_point(Completed(0, STDOUT, ""), 2, tmp_path)
    assert (point.status, point.throughput_per_second) == ("stable", 153.476)
    assert (point.p50_ms, point.p90_ms, point.p95_ms, point.p99_ms) == (12.955, 17.028, 19.111, 20.595)
    assert point.times_ms["server_queue_ms"] == 2.818
    assert (point.requests, point.client_overhead_percent) == (277, 0.25)
    assert point.windows_per_second == (173.129, 153.142)
    assert point.windows_latency_ms == (11.502, 12.937)
    assert point.steps["a-model"].throughput_per_second == 150.5
    assert point.steps["a-model"].times_ms["server_compute_infer_ms"] == 0.146
    assert not any(name.startswith("client") for name in point.steps["a-model"].times_ms)


@pytest.mark.parametrize(
    "report", [None, "", HEADER, HEADER + "4,1,1,1,1,1,1,1,1,1,1,1,1\n", "Concurrency\n2\n", HEADER + "2\n"]
)
def test_a_report_that_cannot_be_read_is_an_error_and_no_figure(tmp_path, report):
    if report is not None:
        (tmp_path / "report.csv").write_text(report)
    with pytest.raises(MachineError, match=r"its report .*report\.csv cannot be read"):
        read_point(Completed(0, STDOUT, ""), 2, tmp_path)


@pytest.mark.parametrize(
    ("stderr", "status"),
    [
        ("", "unstable"),
        (
            "Failed to maintain requested inference load. Worker thread(s) failed\nThread [0] had error: boom\n",
            "failed",
        ),
    ],
)
def test_a_window_without_an_answer_is_unstable_unless_a_request_was_refused(tmp_path, stderr, status):
    nothing = (
        "  Pass [1] cb::Error: No valid requests recorded within time interval. Please use a larger time window.\n"
    )
    assert read_point(Completed(99, nothing, stderr), 1, tmp_path).status == status


def test_a_crash_is_an_error_of_the_machine(tmp_path):
    with pytest.raises(MachineError, match="killed by SIGSEGV at concurrency 2"):
        read_point(Completed(-11, STDOUT, ""), 2, tmp_path)


@pytest.mark.parametrize("status", [1, 3, 126, 127])
def test_an_end_that_is_none_of_a_measurement_is_an_error_of_the_machine(tmp_path, status):
    missing = "perf_analyzer: error while loading shared libraries: libb64.so.0d: cannot open shared object file"
    with pytest.raises(MachineError, match=rf"{status} at concurrency 2\n.*libb64\.so\.0d"):
        read_point(Completed(status, "", missing), 2, tmp_path)


def test_a_model_that_is_too_slow_is_unstable_and_no_error_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(Windows, "timeout_seconds", 1)
    fake = Toolchain(tmp_path, "")
    fake.perf_analyzer.parent.mkdir(parents=True)
    window = "  Pass [1] throughput: 0.5 infer/sec. Avg latency: 2000000 usec (std 0 usec). "
    fake.perf_analyzer.write_text(f"#!/bin/sh\necho '{window}'\nexec sleep 60\n")
    fake.perf_analyzer.chmod(0o755)
    point = measure(fake, address="", model="a", rows=ROWS, concurrency=2, folder=tmp_path / "perf")
    assert (point.concurrency, point.status, point.windows_per_second) == (2, "unstable", (0.5,))
    assert "not done after 1 s" in point.detail
    assert point.throughput_per_second is point.p99_ms is None
