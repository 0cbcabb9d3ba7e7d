"""Both sides of the served benchmarks: an archive of tritonsmith's, and the peer, each on a tritonserver of its own."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import machine, torch_peer
from benchmarks.export_models import model_folder
from benchmarks.paths import RECIPE
from benchmarks.progress import say
from builder.errors import GateError
from builder.recipe import load
from builder.settings import settings
from builder.tools import archive, process, releases, toolchain, triton_client, triton_server

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import ExitStack

    import numpy as np

    from builder.artifacts import Json
    from builder.tools.perf_analyzer import Value
    from builder.tools.toolchain import Toolchain
    from builder.tools.triton_client import Client

OURS, PEER = "tritonsmith", "torch"
_BUILD_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Side:
    """One server with what runs on it."""

    name: str
    client: Client
    pid: int
    model: str  # token ids in
    ensemble: str  # text in

    @property
    def input_names(self) -> tuple[str, ...]:
        """What :attr:`model` takes."""
        return tuple(tensor["name"] for tensor in self.client.config(self.model)["input"])

    @property
    def settings(self) -> dict[str, Any]:
        """What decides its speed, as the server has it."""
        config = self.client.config(self.model)
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        return {
            "instances": sum(int(group.get("count", 1)) for group in config["instance_group"]),
            "threads": int(parameters.get("threads") or parameters.get("intra_op_thread_count") or 0),
            "max_batch_size": int(config["max_batch_size"]),
            "dynamic_batching": json.dumps(config.get("dynamic_batching")),
        }

    def answers(self, rows: Sequence[Mapping[str, Value]], *, text: bool) -> np.ndarray:
        """The embeddings of some requests, asked one by one: [requests, dimension]."""
        import numpy as np

        model = self.ensemble if text else self.model
        asked = [{name: _array(value) for name, value in row.items()} for row in rows]
        return np.concatenate([self.client.infer(model, inputs)["EMBEDDING"] for inputs in asked])


class Waiting:
    """How much processor time a server spends while the other one is measured."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._began = time.monotonic()
        self._before = machine.cpu_seconds(side.pid)

    def cores(self) -> float:
        """Cores that it kept busy since this object was made."""
        return machine.cpu_seconds_since(self._side.pid, self._before) / (time.monotonic() - self._began)


@dataclass(frozen=True, slots=True)
class Pair:
    """Both sides, ready."""

    ours: Side
    peer: Side
    tokenizer: Path  # tokenizer.json of the archive
    onnxruntime: str  # version on tritonsmith's side

    def of(self, name: str) -> tuple[Side, Side]:
        """The side of that name, and the other one."""
        return (self.ours, self.peer) if name == OURS else (self.peer, self.ours)


def start(stack: ExitStack, folder: Path, *, vcpus: int, threads: int) -> Pair:
    """Builds tritonsmith's archive and starts both servers; ``stack`` ends them.

    Args:
        stack: owns the servers and connections.
        folder: an empty folder.
        vcpus: what the recipe's target declares.
        threads: of torch.

    Raises:
        TritonsmithError: the build failed, or a server did not start.
        GateError: for one vCPU, tritonsmith did not choose one instance with one thread.
    """
    recipe = load(RECIPE)
    tools = toolchain.install(settings().cache)
    onnxruntime = releases.release(next(iter(recipe.targets.values())).triton).onnxruntime
    assert onnxruntime is not None
    environment = toolchain.python_environment(tools, settings().cache, onnxruntime)
    repository = _build(folder, vcpus)
    say("starting tritonsmith's server")
    ours = _serve(stack, tools, repository, environment, OURS, f"{recipe.name}-model", recipe.name)
    if vcpus == 1 and (ours.settings["instances"], ours.settings["threads"]) != (1, 1):
        raise GateError(f"one vCPU was asked for, the archive has {ours.settings}")
    say("starting the peer's server")
    tokenizer_step = repository / f"{recipe.name}-tokenize"
    peer = _serve(
        stack,
        tools,
        torch_peer.make_repository(folder / "torch-repository", tokenizer_step),
        torch_peer.make_environment(folder / "torch-environment", environment),
        PEER,
        torch_peer.MODEL,
        torch_peer.ENSEMBLE,
    )
    _load_peer(peer, ours, tokenizer_step.name, threads)
    return Pair(ours, peer, tokenizer_step / "1" / "tokenizer.json", onnxruntime)


def _build(folder: Path, vcpus: int) -> Path:
    """Runs ``tritonsmith build`` and unpacks the archive; returns the repository."""
    say(f"building the archive for {vcpus} vCPU{'s' if vcpus > 1 else ''}")
    program, wanted = Path(sys.executable).with_name("tritonsmith"), f"targets.cpu.hardware.vcpus={vcpus}"
    built = process.run(
        [program, "build", RECIPE, "--no-verify", "--json", "--set", wanted, "--out", folder / "archives"],
        what="tritonsmith build",
        timeout_seconds=_BUILD_SECONDS,
    )
    (made,) = json.loads(built.stdout)["archives"]
    repository = folder / "repository"
    archive.unpack(Path(made["archive"]), repository)
    return repository


def _serve(
    stack: ExitStack, tools: Toolchain, repository: Path, environment: Path, name: str, model: str, ensemble: str
) -> Side:
    # The peer's models have no config yet: they are loaded with one, by _load_peer.
    names = [ensemble] if name == OURS else []
    server = stack.enter_context(triton_server.serve(repository, toolchain=tools, environment=environment, load=names))
    client = stack.enter_context(triton_client.connect(server.grpc_address))
    return Side(name, client, server.pid, model, ensemble)


def _load_peer(peer: Side, ours: Side, tokenizer_step: str, threads: int) -> None:
    config: Json = ours.client.config(ours.model)
    peer.client.load(peer.model, torch_peer.model_config(config, model_folder(), threads=threads))
    peer.client.load(tokenizer_step)
    ensemble: Json = ours.client.config(ours.ensemble)
    peer.client.load(peer.ensemble, torch_peer.ensemble_config(ensemble, ours.model))


def _array(value: Value) -> np.ndarray:
    """What perf_analyzer sends, with the batch axis: [1, 1] or [1, count]."""
    import numpy as np

    return np.array([[value.encode()]], dtype=object) if isinstance(value, str) else np.array([value], dtype=np.int64)
