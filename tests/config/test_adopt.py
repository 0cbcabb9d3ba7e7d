"""Real-world configs → the section of a recipe → the same configs; and a real server takes both for the same."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder.config.adopt import Adopted, adopt, to_yaml
from builder.config.compose import compose
from builder.config.host import Host
from builder.config.rules import problems
from builder.errors import UserError
from builder.recipe import load
from builder.tools import triton_client, triton_proto
from builder.tools.triton_server import Options, serve
from tests.parts import make_onnx

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.recipe import Recipe
    from builder.tools.toolchain import Toolchain

REAL = Path(__file__).with_name("real")
NAMES = sorted(path.name for path in REAL.iterdir())
SERVED = [name for name in NAMES if name != "bert_trt"]  # KIND_GPU: refused where there is no GPU
RELEASE = "25.09"

STEP = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        shape = (len(requests), 4)
        names = ("input_ids", "attention_mask", "token_type_ids")
        return [pb_utils.InferenceResponse([pb_utils.Tensor(name, np.ones((1, 4), np.int64)) for name in names])
                for _ in requests]
"""


def text_of(name: str) -> str:
    return (REAL / name / "config.pbtxt").read_text(encoding="utf-8")


@pytest.fixture
def load_section(tmp_path: Path) -> Callable[[dict[str, Any]], Recipe]:
    """A recipe with a section, through YAML and all checks of recipes."""

    def load_section(serving: dict[str, Any]) -> Recipe:
        path = tmp_path / "recipe.yaml"
        head = "schema_version: 1\nname: m\nsource: {path: model}\ntask: sentence-embedding\n"
        path.write_text(head + to_yaml(serving), encoding="utf-8")
        return load(path)

    return load_section


def again(adopted: Adopted, recipe: Recipe) -> str:
    """The config that the recipe's section makes with the facts."""
    made = compose(adopted.facts, recipe.serving.model_dump(mode="json"))
    return triton_proto.to_text(triton_proto.build(made, release=RELEASE))


@pytest.mark.parametrize("name", NAMES)
def test_a_config_comes_back_as_it_was(name: str, load_section: Callable[..., Recipe]) -> None:
    adopted = adopt(text_of(name), place=name, folder=f"models/{name}")
    parsed = triton_proto.parse_text(text_of(name), place=name)
    assert again(adopted, load_section(adopted.serving)) == triton_proto.to_text(parsed)


@pytest.mark.parametrize("name", NAMES)
def test_our_rules_take_what_servers_take(name: str) -> None:
    config = triton_proto.to_json(triton_proto.parse_text(text_of(name), place=name))
    sizes = {"warmup/input_ids.raw": 32, "warmup/text.raw": 8, "initial_state/begin.raw": 4}
    if name != "text_service":
        assert list(problems(config, Host(gpu=name == "bert_trt", sizes=sizes))) == []


def test_what_a_section_looks_like() -> None:
    """Facts of the graph are not in it, and files are named by their paths."""
    adopted = adopt(text_of("counter"), place="x", folder="models/counter")
    assert "input" not in adopted.serving
    assert to_yaml(adopted.serving).splitlines()[:2] == ["serving:", "  max_batch_size: 4"]
    assert "data_file: models/counter/initial_state/begin.raw" in to_yaml(adopted.serving)
    assert adopt(text_of("bert_trt"), place="x").serving["output"] == [
        {"name": "LOGITS", "dims": [1, 2], "reshape": {"shape": [2]}}
    ]


def test_another_choice_makes_another_config(load_section: Callable[..., Recipe]) -> None:
    """The negative control of the round trip."""
    adopted = adopt(text_of("bert_onnx"), place="x")
    adopted.serving["dynamic_batching"]["priority_queue_policy"]["1"]["max_queue_size"] = 33
    assert again(adopted, load_section(adopted.serving)) != triton_proto.to_text(
        triton_proto.parse_text(text_of("bert_onnx"), place="x")
    )


def test_what_is_no_config_is_refused_with_its_place() -> None:
    with pytest.raises(UserError, match=r"^models/m/config\.pbtxt:1:11: "):
        adopt('name: "m" max_batch: 4', place="models/m/config.pbtxt")
    with pytest.raises(UserError, match=r"^x: input: each needs a name of its own; got \['A', 'A'\]"):
        adopt('input { name: "A" } input { name: "A" }', place="x")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The configs, with models that they fit."""
    root = tmp_path / "repository"
    for name in SERVED:
        shutil.copytree(REAL / name, root / name)
        (root / name / "1").mkdir()
        if name == "text_service":
            (root / name / "1" / "keep").touch()
        elif name != "bert_onnx":
            (root / name / "1" / "model.py").write_text(STEP, encoding="utf-8")
    make_onnx(tmp_path / "graph")
    for path in (tmp_path / "graph").iterdir():
        shutil.copy(path, root / "bert_onnx" / "1")
    (root / "bert_onnx" / "labels.txt").write_text("\n".join("abcdefgh"), encoding="utf-8")
    for path, content in {
        "bert_onnx/warmup/input_ids.raw": struct.pack("<4q", 1, 2, 3, 4),
        "preprocess/warmup/text.raw": struct.pack("<I", 4) + b"text",
        "counter/initial_state/begin.raw": struct.pack("<i", 7),
    }.items():
        (root / path).parent.mkdir()
        (root / path).write_bytes(content)
    return root


def test_the_server_reports_both_as_the_same(
    repository: Path, load_section: Callable[..., Recipe], toolchain: Toolchain, server_environment: Path
) -> None:
    options = Options(cache_bytes=1 << 20, complete_config=False)
    with (
        serve(repository, toolchain=toolchain, environment=server_environment, load=SERVED, options=options) as server,
        triton_client.connect(server.grpc_address) as client,
    ):
        first = {name: client.config(name) for name in SERVED}
        for name in ("text_service", *SERVED):
            client.unload(name)
        for name in SERVED:
            adopted = adopt(text_of(name), place=name, folder=name)
            adopted.serving.get("metric_tags", {}).update(round="2")  # proves that it is loaded anew
            (repository / name / "config.pbtxt").write_text(again(adopted, load_section(adopted.serving)), "utf-8")
        for name in SERVED:
            client.load(name)
        second = {name: client.config(name) for name in SERVED}
    assert second["bert_onnx"]["metric_tags"].pop("round") == "2"
    assert first == second
