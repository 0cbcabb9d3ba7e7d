from __future__ import annotations

import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.errors import MachineError, ServerError
from builder.tools import triton_client, triton_server
from builder.tools.triton_server import Options
from tests.tiny_graphs import add_model, config, put

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.tools.toolchain import Toolchain
    from builder.tools.triton_server import Server

pytestmark = pytest.mark.triton

STRICT = Options(complete_config=False)
ADD = config("onnxruntime", {"A": "FP32 -1", "B": "FP32 -1"}, {"C": "FP32 -1"})
ONE = np.ones((2, 3), np.float32)
# Tells where it runs, and imports a module of its own, which would leave a __pycache__.
WHO_PY = """
import os, sys
import numpy as np
import helper
import triton_python_backend_utils as pb
class TritonPythonModel:
    def execute(self, requests):
        said = np.array([[str(os.getpid()), sys.prefix]], dtype=object)
        return [pb.InferenceResponse([pb.Tensor("WHO", said)]) for _ in requests]
"""
SLOW_PY = """
import time
class TritonPythonModel:
    def initialize(self, args):
        time.sleep(1000)
    def execute(self, requests):
        pass
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    put(folder, "add", ADD, model_onnx=add_model())
    put(folder, "cached", ADD + "response_cache { enable: true }", model_onnx=add_model())
    put(folder, "bare", 'backend: "onnxruntime"', model_onnx=add_model())
    put(folder, "broken", ADD, model_onnx="this is no graph")
    put(folder, "unknown-field", ADD + "nonsense: 3", model_onnx=add_model())
    who = config("python", {"A": "FP32 -1"}, {"WHO": "STRING 2"})
    put(folder, "who", who, model_py=WHO_PY, helper_py="")
    put(folder, "slow", who, model_py=SLOW_PY)
    return folder


@pytest.fixture
def start(repository: Path, toolchain: Toolchain, server_environment: Path) -> Any:
    """``serve`` with what is the same in all tests."""

    @contextmanager
    def start(*load: str, folder: Path = repository, options: Options = STRICT, **more: Any) -> Iterator[Server]:
        with triton_server.serve(
            folder, toolchain=toolchain, environment=server_environment, load=load, options=options, **more
        ) as server:
            yield server

    return start


def leftovers(server_name: str) -> list[Path]:
    return list(Path(triton_server.SHARED_MEMORY).glob(f"{server_name}*"))


def group(pid: int) -> list[int]:
    """The processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def test_a_server_from_start_to_end(
    start: Any, repository: Path, server_environment: Path, tmp_path: Path, is_gone: Any
) -> None:
    before = sorted(repository.rglob("*"))
    with start("add", "who", log_path=tmp_path / "log") as server, triton_client.connect(server.grpc_address) as client:
        assert client.infer("add", {"A": ONE, "B": ONE})["C"].tolist() == (ONE + ONE).tolist()
        pid, prefix = (text.decode() for text in client.infer("who", {"A": ONE[:1]})["WHO"][0])
        assert prefix == str(server_environment)  # the stubs import from there, and nowhere else
        assert client.server_metadata()["name"] == server.name
        assert leftovers(server.name)
        assert int(pid) in (stubs := group(server.pid))
        for address in (server.http_address, server.grpc_address, server.metrics_address):
            host, port = address.split(":")
            socket.create_connection((host, int(port)), timeout=10).close()
            with pytest.raises(OSError, match="refused"):  # on loopback only
                socket.create_connection((own_address(), int(port)), timeout=10)
    assert all(is_gone(stub) for stub in stubs)
    assert leftovers(server.name) == []
    assert sorted(repository.rglob("*")) == before
    assert "successfully loaded 'add'" in (tmp_path / "log").read_text()


def own_address() -> str:
    """An address of this machine that is not 127.0.0.1: the whole of 127/8 is loopback on Linux."""
    return "127.0.0.2"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("broken", r"failed to load 'broken' version 1: .*Protobuf parsing failed"),
        ("unknown-field", r'"inference.ModelConfig" has no field named "nonsense"'),
        ("missing", r"failed to poll model 'missing': model not found"),
    ],
)
def test_a_model_that_does_not_load(start: Any, model: str, reason: str) -> None:
    with pytest.raises(ServerError, match=r"tritonserver did not start, it exited with 1") as caught, start(model):
        pass
    assert caught.match(reason)
    assert "CudaDriverHelper" not in str(caught.value)  # noise of machines without a GPU


def test_not_ready_in_time(start: Any, is_gone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Server] = []
    launch = triton_server._launch
    monkeypatch.setattr(triton_server, "_launch", lambda plan: seen.append(launch(plan)) or seen[-1])
    with pytest.raises(ServerError, match="not ready after 1 s"), start("slow", options=Options(start_seconds=1.0)):
        pass
    assert is_gone(seen[0].pid)
    assert leftovers(seen[0].name) == []


def test_a_server_that_floods_its_log(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_server, "_LOG_BYTES", 100)  # the control is every other test: their logs are short
    with pytest.raises(ServerError, match="did not start: its log is longer than"), start("slow"):
        pass


def test_the_token_of_the_hub_is_not_handed_on(
    toolchain: Toolchain, server_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID"}
    for name in (*secret, "HF_HOME"):
        monkeypatch.setenv(name, "mine")
    handed_on = triton_server._environment(toolchain, server_environment)
    assert {*secret, "HF_HOME"} & set(handed_on) == {"HF_HOME"}


def test_a_port_that_was_asked_for_and_is_taken(start: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServerError, match=f"grpc port {port} on 127.0.0.1: Address already in use") as caught:
            start(options=Options(grpc_port=port)).__enter__()
    assert "choose another port" in caught.value.mend


def test_a_port_that_was_asked_for(start: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with start(options=Options(http_port=port)) as server:
        assert server.http_address == f"127.0.0.1:{port}"


class Impostor(http.server.BaseHTTPRequestHandler):
    """Another program on our port, which says yes to everything, as another Triton would."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"name": "triton"}')

    def log_message(self, *_: object) -> None:
        pass


def test_a_port_lost_between_choice_and_use(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = triton_server._choose_ports
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Impostor) as impostor:
        threading.Thread(target=impostor.serve_forever, daemon=True).start()
        lost = [impostor.server_address[1]]

        def choose(options: Options) -> dict[str, int]:
            ports = real(options)
            return {**ports, "http": lost.pop()} if lost else ports

        monkeypatch.setattr(triton_server, "_choose_ports", choose)
        with start() as server:
            assert server.http_address != f"127.0.0.1:{impostor.server_address[1]}"
            assert lost == []
        impostor.shutdown()


def test_a_server_that_dies_in_use(start: Any, is_gone: Any) -> None:
    stubs: list[int] = []

    def ask_the_dead() -> None:
        with start("who") as server, triton_client.connect(server.grpc_address) as client:
            server.check()  # the control: it lives
            stubs.extend(group(server.pid))
            os.kill(server.pid, signal.SIGKILL)
            client.infer("who", {"A": ONE})

    with pytest.raises(ServerError, match="tritonserver was killed by SIGKILL while it was in use") as caught:
        ask_the_dead()
    assert "successfully loaded 'who'" in str(caught.value)  # the last lines of its log
    assert len(stubs) > 1
    assert all(is_gone(stub) for stub in stubs)


def test_a_server_that_dies_unseen(start: Any) -> None:
    def look_away() -> None:
        with start() as server:
            os.kill(server.pid, signal.SIGKILL)
            server.process.wait(10)

    with pytest.raises(ServerError, match="was killed by SIGKILL"):
        look_away()


def test_an_error_of_the_caller_passes_through(start: Any, is_gone: Any) -> None:
    seen: list[Server] = []

    def fail() -> None:
        with start() as server:
            seen.append(server)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    assert is_gone(seen[0].pid)


SERVE = """
import sys, time
from pathlib import Path
from builder.settings import settings
from builder.tools import toolchain, triton_server
repository, environment, cache = (Path(argument) for argument in sys.argv[1:])
tools = toolchain.status(cache)
options = triton_server.Options(complete_config=False)
with triton_server.serve(repository, toolchain=tools, environment=environment, load=["who"], options=options) as server:
    print(server.name, server.pid, flush=True)
    time.sleep(1000)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_the_builder(
    repository: Path, toolchain: Toolchain, server_environment: Path, is_gone: Any, how: signal.Signals, tmp_path: Path
) -> None:
    arguments = [str(repository), str(server_environment), str(toolchain.root.parent.parent)]
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        text=True,
        start_new_session=True,
    ) as builder:
        assert builder.stdout is not None
        name, pid = builder.stdout.readline().split()
        everyone = group(int(pid))
        assert len(everyone) > 1
        assert leftovers(name)
        os.killpg(builder.pid, how)  # Ctrl-C on a terminal reaches the whole group
        builder.wait(30)
    assert all(is_gone(process) for process in everyone)
    for _ in range(500):  # the guardian removes these after the last process
        if not leftovers(name) and not list(tmp_path.iterdir()):
            break
        threading.Event().wait(0.01)
    assert leftovers(name) == []
    assert list(tmp_path.iterdir()) == []


def test_the_response_cache(start: Any) -> None:
    options = Options(complete_config=False, cache_bytes=1_000_000)
    with start("cached", options=options) as server, triton_client.connect(server.grpc_address) as client:
        for _ in range(3):
            client.infer("cached", {"A": ONE, "B": ONE})
        assert client.statistics("cached")["inference_stats"]["cache_hit"]["count"] == "2"


def test_completion_is_tritons_choice_unless_it_is_turned_off(start: Any) -> None:
    with start("bare", options=Options()) as server, triton_client.connect(server.grpc_address) as client:
        assert client.config("bare")["max_batch_size"] == 4
    with pytest.raises(ServerError, match="the config has no such"), start("bare"):
        pass


def test_a_temporary_folder_that_a_shell_would_misread(
    start: Any, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "$HOME").mkdir()
    (tmp_path / "r e p o").symlink_to(repository)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "$HOME"))
    with start():  # nothing needs a link
        pass
    with pytest.raises(MachineError, match="temporary folder"), start(folder=tmp_path / "r e p o"):
        pass


def test_a_path_that_a_shell_would_misread(start: Any, tmp_path: Path) -> None:
    folder = tmp_path / "my models; $(touch pwned) 'x'"
    put(folder, "add", ADD, model_onnx=add_model())
    with start("add", folder=folder) as server, triton_client.connect(server.grpc_address) as client:
        assert client.is_ready("add")
