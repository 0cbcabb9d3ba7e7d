"""The repository of an engine target: what is in it, and what a real server's core says of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.artifacts import Profile
from builder.config import ConfigureInputs, configure, warm_up
from builder.core.digest import digest_json
from builder.engine import Compile
from builder.errors import InternalError, RecipeError, ServerError
from builder.package import PackageInputs, package
from builder.settings import settings
from builder.tools import toolchain as toolchains
from builder.tools import triton_client, triton_proto, triton_server
from builder.tools.compatibility import TENSORRT_RTX_VERSION
from builder.tools.files import materialise
from tests.models import MAX_LENGTH
from tests.package.conftest import load_recipe
from tests.parts import DIMENSIONS, make_engine, make_parts

if TYPE_CHECKING:
    from pathlib import Path

    from builder.artifacts import Engine, OnnxModel, Repository
    from builder.package import Package
    from builder.tools.toolchain import Toolchain

PROFILES = (Profile((1, 8, 32), (2, 16, 32)), Profile((1, 4, 8), (33, MAX_LENGTH, MAX_LENGTH)))
PLANS = {"7.5": "sm75.plan", "8.6": "sm86.plan"}

# Stands for a backend that needs a GPU: the first value of each row is how many tokens it got.
STAND_IN = f"""
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        shapes = [pb_utils.get_input_tensor_by_name(request, "input_ids").as_numpy().shape for request in requests]
        answers = [np.full((rows, {DIMENSIONS}), tokens, np.float32) for rows, tokens in shapes]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("EMBEDDING", answer)]) for answer in answers]
"""


class Shipped:
    """A stage, what it read and what it made."""

    def __init__(
        self, folder: Path, runtime: str, plans: dict[str, str], *overrides: str, engine: str = "{}", real: bool = False
    ) -> None:
        target = f"runtime: {runtime}, precision: fp16, hardware: {{compute_capability: '8.6'}}, engine: {engine}"
        self.recipe = load_recipe(folder, f"targets={{gpu: {{{target}}}}}", *overrides)
        parts = make_parts(folder / "parts")
        self.engine: Engine = (
            compiled(folder / "engine", parts.model)
            if real
            else make_engine(folder / "engine", parts.model, PROFILES, runtime=runtime, plans=plans)
        )
        warm = warm_up(self.recipe)
        assert warm
        (folder / "warmup").mkdir()
        warmup = warm.run((parts.tokenizer, parts.reference), folder / "warmup")
        read = ConfigureInputs(parts.model, parts.tokenizer, warmup, engine=self.engine)
        configs = configure(self.recipe, "gpu").run(read, folder / "configs")
        self.inputs = PackageInputs(parts.source, parts.model, parts.tokenizer, configs, engine=self.engine)
        self.stage: Package = package(self.recipe, "gpu", settings().cache)
        self.stage.requires(self.inputs)
        self.repository: Repository = self.stage.run(self.inputs, folder / "out")
        self.stage.ensures(self.inputs, self.repository)


def compiled(folder: Path, model: OnnxModel) -> Engine:
    """A real plan, of TensorRT for RTX, which needs no GPU to make one."""
    folder.mkdir()
    stage = Compile("tensorrt-rtx", TENSORRT_RTX_VERSION, "8.6", PROFILES)
    in_order = replace(model, inputs=model.inputs[::-1])  # as the file has them
    stage.requires(in_order)
    made = stage.run(in_order, folder)
    stage.ensures(in_order, made)
    return made


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    return Shipped(tmp_path_factory.mktemp("shipped"), "tensorrt", PLANS)


def test_the_layout(shipped: Shipped) -> None:
    """Golden: plans, and no graph beside them."""
    tokens = [f"{name}-{length}" for name in ("attention_mask", "input_ids", "token_type_ids") for length in (16, 48)]
    assert [path for path in shipped.repository.files if "/vendor/" not in path] == [
        "tiny-model/1/sm75.plan",
        "tiny-model/1/sm86.plan",
        "tiny-model/config.pbtxt",
        *(f"tiny-model/warmup/{name}" for name in tokens),
        "tiny-tokenize/1/model.py",
        "tiny-tokenize/1/settings.json",
        "tiny-tokenize/1/tokenizer.json",
        "tiny-tokenize/config.pbtxt",
        "tiny/1/build.json",
        "tiny/config.pbtxt",
    ]


def test_build_json_tells_what_is_in_the_plans(shipped: Shipped) -> None:
    build = json.loads(shipped.repository.files["tiny/1/build.json"].path.read_text(encoding="utf-8"))
    digests = {name: file.sha256 for name, file in shipped.engine.files.items()}
    assert build["engines"] == {
        "tiny-model": {
            "runtime": "tensorrt",
            "plans": {capability: {"file": name, "sha256": digests[name]} for capability, name in PLANS.items()},
            "profiles": [
                {"batch": [1, 8, 32], "sequence": [2, 16, 32]},
                {"batch": [1, 4, 8], "sequence": [33, MAX_LENGTH, MAX_LENGTH]},
            ],
        }
    }
    assert build["files"]["tiny-model/1/sm75.plan"] == digests["sm75.plan"]


def test_the_record_tells_what_a_host_needs(shipped: Shipped, tmp_path: Path) -> None:
    assert shipped.repository.record["host"] == {"compute_capabilities": ["7.5", "8.6"]}
    own = Shipped(tmp_path / "own", "tensorrt-rtx", {"8.6": "model.plan"}).repository.record["host"]
    assert own == {"compute_capabilities": ["8.6"], "backends": ["tensorrt_rtx"]}
    later = Shipped(tmp_path / "later", "tensorrt", {"8.6": "model.plan"}, engine="{version_compatible: true}")
    assert later.repository.record["host"]["arguments"] == ["--backend-config=tensorrt,version-compatible=true"]


def test_a_plan_without_weights_has_the_graph_beside_it(tmp_path: Path) -> None:
    stripped = Shipped(tmp_path, "tensorrt-rtx", {"8.6": "model.plan"}, engine="{strip_weights: true}")
    held = [path.rpartition("/")[2] for path in stripped.repository.files if path.startswith("tiny-model/1/")]
    assert held == ["model.data", "model.onnx", "model.plan"]
    with pytest.raises(RecipeError, match="NVIDIA's backend does not put the weights back into a plan"):
        Shipped(tmp_path / "stock", "tensorrt", PLANS, engine="{strip_weights: true}")


def test_the_key_follows_the_plans_and_not_the_graph(shipped: Shipped) -> None:
    stage, inputs = shipped.stage, shipped.inputs
    renewed = {**shipped.engine.files, "sm75.plan": replace(shipped.engine.files["sm75.plan"], sha256="0" * 64)}
    changed = [
        inputs,
        replace(inputs, engine=replace(shipped.engine, files=renewed)),
        replace(inputs, engine=replace(shipped.engine, profiles=PROFILES[:1])),
        replace(inputs, engine=None),
    ]
    assert len({digest_json(stage.fingerprint(given)) for given in changed}) == len(changed)
    other_graph = replace(inputs, model=replace(inputs.model, files={}))
    assert digest_json(stage.fingerprint(other_graph)) == digest_json(stage.fingerprint(inputs))


def test_a_plan_that_is_missing_is_a_bug(shipped: Shipped) -> None:
    engine = replace(shipped.engine, files={"sm75.plan": shipped.engine.files["sm75.plan"]})
    with pytest.raises(InternalError, match=r"the model has no sm86\.plan, only sm75\.plan"):
        shipped.stage.requires(replace(shipped.inputs, engine=engine))


@pytest.mark.triton
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the library that compiles
def test_the_core_takes_all_but_the_gpu(toolchain: Toolchain, server_environment: Path, tmp_path: Path) -> None:
    """Both kinds of engines, behind a stand-in for their backends: without a GPU, instances are the one difference."""
    backends = shutil.copytree(toolchains.backends(toolchain, server_environment), tmp_path / "backends")
    for name in ("tensorrt", "tensorrt_rtx"):
        shutil.rmtree(backends / name, ignore_errors=True)
        (backends / name).mkdir()
        (backends / name / "model.py").write_text(STAND_IN, encoding="utf-8")
    repository = tmp_path / "repository"
    graphs = "serving.optimization={cuda: {graphs: true}}"
    materialise(Shipped(tmp_path / "a", "tensorrt", PLANS, graphs).repository.files, repository)
    own = Shipped(tmp_path / "b", "tensorrt-rtx", {}, "name=own", real=True)
    materialise(own.repository.files, repository)
    server = triton_server.serve(
        repository,
        toolchain=toolchain,
        environment=server_environment,
        arguments=[f"--backend-directory={backends}"],
        options=triton_server.Options(complete_config=False),
    )
    with server as running, triton_client.connect(running.grpc_address) as client:
        for name in ("tiny", "own"):
            with pytest.raises(ServerError, match=f"{name}-model_0 .* has kind KIND_GPU but no GPUs are available"):
                client.load(name)
            config = read(repository / f"{name}-model")
            [group] = config["instance_group"]
            client.load(f"{name}-model", {**config, "instance_group": [{**group, "kind": "KIND_CPU"}]})
            client.load(name)
            answer = client.infer(name, {"TEXT": np.array([[b"hello"], [b"there"]], dtype=object)})
            assert answer["EMBEDDING"].tolist() == [[16.0] * DIMENSIONS] * 2  # padded to the first bucket
        # Why there is no `profile` in the config of tensorrt_rtx: the core would refuse it.
        named = {**config, "instance_group": [{"kind": "KIND_CPU", "profile": ["0"]}]}
        with pytest.raises(ServerError, match="profile field which is only supported for TensorRT models"):
            client.load("own-model", named)


def read(folder: Path) -> dict[str, Any]:
    text = (folder / "config.pbtxt").read_text(encoding="utf-8")
    return triton_proto.to_json(triton_proto.parse_text(text, place=str(folder)))
