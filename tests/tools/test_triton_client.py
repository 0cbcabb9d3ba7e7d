from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from builder.errors import ServerError
from builder.tools import triton_client, triton_server
from tests.tiny_graphs import add_model, config, put

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.tools.toolchain import Toolchain
    from builder.tools.triton_client import Client

pytestmark = pytest.mark.triton

ADD = config("onnxruntime", {"A": "FP32 -1", "B": "FP32 -1"}, {"C": "FP32 -1"})
ONE = np.ones((2, 3), np.float32)
# Sends its text back, twice; waits where the text says so.
ECHO_PY = """
import time
import triton_python_backend_utils as pb
class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            text = request.inputs()[0].as_numpy()
            if text.reshape(-1)[0] == b"wait":
                time.sleep(3)
            answers.append(pb.InferenceResponse([pb.Tensor("ONE", text), pb.Tensor("TWO", text)]))
        return answers
"""


@pytest.fixture(scope="module")
def client(
    toolchain: Toolchain, server_environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    repository = tmp_path_factory.mktemp("repository")
    put(repository, "add", ADD, model_onnx=add_model())
    put(repository, "add2", ADD, model_onnx=add_model())
    echo = config("python", {"TEXT": "STRING 1"}, {"ONE": "STRING 1", "TWO": "STRING 1"})
    put(repository, "echo", echo, model_py=ECHO_PY)
    with (
        triton_server.serve(
            repository,
            toolchain=toolchain,
            environment=server_environment,
            load=["add", "echo"],
            options=triton_server.Options(complete_config=False),
        ) as server,
        triton_client.connect(server.grpc_address) as client,
    ):
        yield client


def test_numbers(client: Client) -> None:
    answer = client.infer("add", {"A": ONE, "B": ONE * 2})
    assert list(answer) == ["C"]
    assert answer["C"].dtype == np.float32
    assert answer["C"].tolist() == [[3.0] * 3] * 2


@pytest.mark.parametrize("text", ["plain", "日本語 🌷", "", b"\xff\x00\xfe"])
def test_text(client: Client, text: str | bytes) -> None:
    answer = client.infer("echo", {"TEXT": np.array([[text]], dtype=object)})
    assert answer["ONE"].tolist() == [[text if isinstance(text, bytes) else text.encode()]]


def test_only_the_outputs_that_are_wanted(client: Client) -> None:
    text = np.array([["x"]], dtype=object)
    assert sorted(client.infer("echo", {"TEXT": text})) == ["ONE", "TWO"]
    assert list(client.infer("echo", {"TEXT": text}, outputs=["TWO"])) == ["TWO"]


@pytest.mark.parametrize(
    ("model", "inputs", "text"),
    [
        ("nobody", {"A": ONE}, "nobody: infer: Request for unknown model: 'nobody' is not found"),
        ("add", {"A": ONE}, r"add: infer: .*expected 2 inputs but got 1"),
        ("add", {"A": ONE, "B": ONE.astype(np.int32)}, r"data-type is 'INT32', but model 'add' expects 'FP32'"),
        ("add", {"A": ONE, "B": np.ones((9, 3), np.float32)}, "input 'A' batch size does not match"),
    ],
)
def test_the_server_says_why_it_refuses(client: Client, model: str, inputs: dict[str, np.ndarray], text: str) -> None:
    with pytest.raises(ServerError, match=text):
        client.infer(model, inputs)


def test_no_answer_in_time(client: Client) -> None:
    with pytest.raises(ServerError, match="echo: infer: Deadline Exceeded"):
        client.infer("echo", {"TEXT": np.array([["wait"]], dtype=object)}, timeout_seconds=0.2)


def test_many_threads_share_it(client: Client) -> None:
    answers: dict[int, float] = {}

    def ask(number: int) -> None:
        answers[number] = float(client.infer("add", {"A": ONE, "B": ONE * number})["C"][0, 0])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: number + 1.0 for number in range(16)}


def test_load_with_another_config_and_unload(client: Client) -> None:
    assert not client.is_ready("add2")
    client.load("add2")
    stated = client.config("add2")
    assert (stated["max_batch_size"], stated["backend"]) == (8, "onnxruntime")
    assert "dynamic_batching" not in stated
    client.load("add2", {**stated, "max_batch_size": 3, "dynamic_batching": {"max_queue_delay_microseconds": "100"}})
    changed = client.config("add2")
    assert changed["max_batch_size"] == 3
    assert changed["dynamic_batching"]["max_queue_delay_microseconds"] == "100"
    assert client.infer("add2", {"A": ONE, "B": ONE})["C"].shape == (2, 3)
    client.unload("add2")
    assert not client.is_ready("add2")


def test_a_config_that_the_server_refuses(client: Client) -> None:
    with pytest.raises(ServerError, match=r"add2: load: failed to load 'add2'") as caught:
        client.load("add2", {**client.config("add"), "name": "add2", "max_batch_size": "many"})
    assert "server's log" in caught.value.mend  # the server keeps the reason to itself
    with pytest.raises(ServerError, match="nobody: load: failed to load 'nobody'"):
        client.load("nobody")


def test_facts(client: Client) -> None:
    client.infer("add", {"A": ONE, "B": ONE})
    found = client.metadata("add")
    assert [tensor["name"] for tensor in found["inputs"]] == ["A", "B"]
    assert found["outputs"] == [{"name": "C", "datatype": "FP32", "shape": ["-1", "-1"]}]
    assert int(client.statistics("add")["inference_count"]) >= 2
    assert client.server_metadata()["version"] == "2.51.0"
    for ask in (client.config, client.metadata, client.statistics):
        with pytest.raises(ServerError, match="nobody"):
            ask("nobody")


def test_a_proxy_of_the_environment_is_not_asked(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    with triton_client.connect(client.address) as direct:
        assert direct.is_ready("add")
        large = np.zeros((1, 2_000_000), np.float32)  # more than gRPC's own limit of 4 MiB
        assert direct.infer("add", {"A": large, "B": large})["C"].shape == large.shape
    monkeypatch.setattr(triton_client, "_OPTIONS", ())  # the control: gRPC would ask it
    with triton_client.connect(client.address) as diverted, pytest.raises(ServerError):
        diverted.infer("add", {"A": ONE, "B": ONE}, timeout_seconds=2)


def test_nobody_there() -> None:
    with (
        triton_client.connect("127.0.0.1:9") as nobody,
        pytest.raises(ServerError, match="x: infer: failed to connect"),
    ):
        nobody.infer("x", {"A": ONE}, timeout_seconds=5)
