"""A running server to which tests add models, and what they write into config.pbtxt."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import ServerError
from builder.tools import triton_client, triton_server
from tests.tiny_graphs import put

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.tools.toolchain import Toolchain
    from builder.tools.triton_client import Client
    from builder.tools.triton_server import Server


def gathering(size: int) -> str:
    """Dynamic batching that waits until requests of ``size`` rows in all have come, or ten seconds."""
    return f"dynamic_batching {{ preferred_batch_size: [{size}] max_queue_delay_microseconds: 10000000 }}\n"


def parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}\n'


class Bench:
    """One running server, and a repository to which tests add models."""

    def __init__(self, server: Server, client: Client, repository: Path) -> None:
        self.server, self.client, self.repository = server, client, repository

    def load(self, name: str, config_text: str, **files: str | bytes) -> Path:
        folder = put(self.repository, name, config_text, **files)
        self.client.load(name)
        return folder

    def ask_at_once(self, name: str, requests: list[Mapping[str, Any]]) -> tuple[list[Any], int]:
        """All answers (arrays or errors) and the number of executions that they took."""
        answers: list[Any] = [None] * len(requests)
        answered, before = self.counts(name)

        def ask(index: int) -> None:
            try:
                answers[index] = self.client.infer(name, requests[index])
            except ServerError as error:
                answers[index] = error

        threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(requests))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers, self.settled(name, answered + len(requests)) - before

    def settled(self, name: str, answered: int) -> int:
        """Executions, when those of so many requests are counted: a backend reports them after it has answered."""
        last = (-1, -1)
        for _ in range(100):
            counts = self.counts(name)
            if counts == last and counts[0] >= answered:
                break
            last = counts
            time.sleep(0.1)
        return last[1]

    def counts(self, name: str) -> tuple[int, int]:
        """Requests that were answered or failed, and executions."""
        found = self.client.statistics(name)
        ended = (found.get("inference_stats", {}).get(key, {}).get("count", 0) for key in ("success", "fail"))
        return sum(map(int, ended)), int(found.get("execution_count", 0))

    def stubs(self, name: str) -> list[Path]:
        """The processes that serve a model, as folders of /proc."""
        place = f"{self.repository}/{name}/"
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if "triton_python_backend_stub" in command.split("\0")[0] and place in command:
                found.append(process)
        return found


@contextmanager
def serve(repository: Path, toolchain: Toolchain, environment: Path, *, load: Sequence[str] = ()) -> Iterator[Bench]:
    """Serves a repository without completing its configs."""
    options = triton_server.Options(complete_config=False)
    with (
        triton_server.serve(
            repository, toolchain=toolchain, environment=environment, load=load, options=options
        ) as server,
        triton_client.connect(server.grpc_address) as client,
    ):
        yield Bench(server, client, repository)
