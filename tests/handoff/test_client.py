"""The client that a release holds, alone and against tritonserver's own SageMaker front end."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import urllib.error
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.handoff import hand_off
from builder.handoff.release import _CLIENT
from builder.tools import archive, triton_server
from builder.verify.contract.multi_model import endpoint
from builder.verify.contract.report import Host
from tests.handoff.shipping import BASE, ship

if TYPE_CHECKING:
    from pathlib import Path

    from builder.tools.toolchain import Toolchain

PREFIX = "application/vnd.sagemaker-triton.binary+json;json-header-size="


@pytest.fixture(scope="module")
def client() -> Any:
    spec = importlib.util.spec_from_file_location("client", _CLIENT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_content_type_says_how_long_the_header_is(client: Any) -> None:
    body, kind = client.encode({"TEXT": [["ä"], ["bc"]], "N": [[1.5], [2]]}, {"TEXT": "BYTES", "N": "FP32"})
    assert kind.startswith(PREFIX)
    size = int(kind.removeprefix(PREFIX))
    assert 0 <= size <= len(body)
    header = json.loads(body[:size])
    assert [one["parameters"]["binary_data_size"] for one in header["inputs"]] == [12, 8]
    assert body[size:] == b"\2\0\0\0\xc3\xa4\2\0\0\0bc" + np.array([1.5, 2], "<f4").tobytes()


def test_answers_are_read_by_their_own_content_type(client: Any) -> None:
    raw = b"\1\0\0\0a\0\0\0\0" + np.array([3, 4], "<i8").tobytes()
    tensors = [
        {"name": "S", "datatype": "BYTES", "shape": [2, 1], "parameters": {"binary_data_size": 9}},
        {"name": "N", "datatype": "INT64", "shape": [2], "parameters": {"binary_data_size": 16}},
    ]
    head = json.dumps({"outputs": tensors}).encode()
    found = client.decode(head + raw, f"{PREFIX}{len(head)}")
    assert (found["S"].tolist(), found["N"].tolist()) == ([["a"], [""]], [3, 4])
    plain = {"outputs": [{"name": "N", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
    assert client.decode(json.dumps(plain).encode(), "application/json")["N"].tolist() == [[1, 2]]
    with pytest.raises(ValueError, match="Extra data"):
        client.decode(head + raw, "application/json")


def test_a_request_can_be_kept(tmp_path: Path) -> None:
    made = hand_off([ship(tmp_path, section=BASE)], tmp_path / "out")
    command = [sys.executable, made.folder / "client.py", "--save", tmp_path / "request", "--json", "a"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == "application/json\n"
    tensor = {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": ["a"]}
    assert json.loads((tmp_path / "request").read_bytes()) == {"inputs": [tensor]}


def ask_both_ways(release: Path, url: str) -> None:
    """Runs a release's client in both formats."""
    for form in ([], ["--json"]):
        command = [sys.executable, release / "client.py", "--url", url, *form, "a text", "größer"]
        said = subprocess.run(command, capture_output=True, text=True, check=True)
        assert json.loads(said.stdout) == {"LENGTH": [[6.0], [8.0]], "SAID": [["A TEXT"], ["GRößER"]]}


@pytest.mark.triton
def test_it_asks_the_real_front_end_in_both_formats(
    client: Any, tmp_path: Path, toolchain: Toolchain, server_environment: Path
) -> None:
    path = ship(tmp_path, section={**BASE, "endpoint": {"instance": "ml.c5.xlarge"}})
    made = hand_off([path], tmp_path / "out")
    variables = json.loads((made.folder / "environment.json").read_text())
    archive.unpack(path, tmp_path / "repository")
    with triton_server.serve(
        tmp_path / "repository",
        toolchain=toolchain,
        environment=server_environment,
        load=["tiny"],
        options=triton_server.Options(sagemaker=variables),
    ) as server:
        url = f"http://{server.sagemaker_address}/invocations"
        ask_both_ways(made.folder, url)
        body, kind = client.encode({"TEXT": [["a"]]}, {"TEXT": "BYTES"})
        with pytest.raises(urllib.error.HTTPError, match=r"HTTP Error [45]00"):
            client.ask_url(url, body, kind.replace(";", "; "))  # then it is taken for JSON


@pytest.mark.triton
def test_it_names_its_target_to_a_multi_model_front_end(
    client: Any, tmp_path: Path, toolchain: Toolchain, server_environment: Path
) -> None:
    """The release of two archives, the first of which is loaded as SageMaker does it."""
    section = {**BASE, "name": "many", "endpoint": {"instance": "ml.c5.xlarge"}}
    paths = [ship(tmp_path, name, kind="sagemaker-mme", section=section) for name in ("tiny", "other")]
    made = hand_off(paths, tmp_path / "out")
    variables = json.loads((made.folder / "environment.json").read_text())
    (tmp_path / "host").mkdir()
    host = Host(toolchain, server_environment, variables, tmp_path / "host")
    with endpoint(host) as running, running.unpacked(paths[0]) as (name, url):
        assert running.front_end.load(name, url, paths[0].name).status == 200
        asked = f"http://{running.front_end.address}/models/{name}/invoke"
        ask_both_ways(made.folder, asked)
        body, kind = client.encode({"TEXT": [["a"]]}, {"TEXT": "BYTES"})
        with pytest.raises(urllib.error.HTTPError, match="HTTP Error 4"):
            client.ask_url(asked, body, kind)  # without the header, the server knows no model of that name
