"""Worker processes beside the builder: who is there, who gets what, and what becomes of those that die.

What runs in them is :mod:`builder.core.worker`. They end with the builder, however that ends
(:mod:`builder.tools.process`).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import errors
from builder.core.digest import digest_json
from builder.core.execute import Elsewhere, Executor
from builder.core.graph import memory_of
from builder.core.report import ended
from builder.errors import DamagedError, InternalError, MachineError, TritonsmithError
from builder.settings import environment
from builder.tools import memory

if TYPE_CHECKING:
    from typing import Self

    from builder.artifacts import Json
    from builder.core.stage import Stage
    from builder.tools.process import Dialogue

log = logging.getLogger(__name__)

TOOK_MORE: Final = "%s took %.2f GB of memory, more than the %.2f GB that were set aside for it"

_ENTRY: Final = "builder.core.worker"

KEPT_BYTES: Final = 1 << 30
"""A worker that holds more than this when it is idle is not kept: the libraries alone take about half of it."""


@dataclass(slots=True)
class Workers:
    """Runs stages that ask for it (``apart``) in processes of their own, and all others here.

    A process takes one order after another: what it has imported stays. A stage gets the one that has imported most of
    the libraries that it declares; a new one is started when none is idle. What it sets up at its first trace, say, it
    has for the next: :meth:`prefers` lets it go on with what it did before. Use it as a context manager.

    Args:
        executor: who runs what stays here, and finds what was made there.
        memory: bytes that there are for all stages; more than that in one stage is a warning.
    """

    executor: Executor
    memory: int | None = None
    _idle: list[_Worker] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, stage: Stage[Any, Any], inputs: Any, node: str) -> object:  # noqa: ANN401 - any stage's
        """As :meth:`builder.core.execute.Executor.run`.

        Raises:
            TritonsmithError: as if the stage had run here.
            MachineError: the worker was killed.
        """
        if not getattr(stage, "apart", False):
            return self.executor.run(stage, inputs, node)
        began, reporter = time.monotonic(), self.executor.reporter
        fingerprint = self.executor.fingerprint(stage, inputs)
        if self.executor.store.find(digest_json(fingerprint)) is not None:
            return self.executor.run(stage, inputs, node)
        reporter.started(node)
        try:
            answer = self._send(stage, inputs, node, fingerprint)
        except BaseException as error:
            ended(reporter, node, time.monotonic() - began, error)
            raise
        return self.executor.run(stage, inputs, node, Elsewhere(began, answer["peak_bytes"], answer["state"]))

    def prefers(self, stage: object) -> bool:
        """Whether an idle worker has done the same before, for another model."""
        name = getattr(stage, "name", None)
        with self._lock:
            return any(name in worker.stages for worker in self._idle)

    def _send(self, stage: Stage[Any, Any], inputs: object, node: str, fingerprint: dict[str, Json]) -> dict[str, Json]:
        """Has a worker run the stage; its answer."""
        needed = memory_of(stage, inputs)
        if self.memory is not None and needed > self.memory:
            log.warning(
                "%s may need %.1f GB of memory, and %.1f GB are there: it runs by itself", stage.name,
                needed / 1e9, self.memory / 1e9,
            )  # fmt: skip
        from builder.core.orders import order_of  # a build that finds everything needs none of this

        order = order_of(stage, inputs, node, fingerprint, self.executor.store)
        answer = None
        while answer is None:  # one that died while it was idle took no order: another gets it
            worker = self._take(stage.name, frozenset(fingerprint.get("versions", ())), needed)
            try:
                answer = worker.ask(order, stage.name)
            except BaseException:
                worker.end()
                raise
        if answer["resident_bytes"] > KEPT_BYTES:
            worker.end()
        else:
            with self._lock:
                self._idle.append(worker)
        if "error" in answer:
            raise _error(answer["error"])
        if answer["peak_bytes"] > needed:
            log.info(TOOK_MORE, stage.name, answer["peak_bytes"] / 1e9, needed / 1e9)
        return answer

    def _take(self, stage: str, libraries: frozenset[str], needed: int) -> _Worker:
        """The idle worker that did the same before or has most of the libraries, or the last used; or a new one."""
        with self._lock:
            idle = self._idle
            idle[:] = [worker for worker in idle if worker.is_alive()]
            best = max(reversed(idle), key=lambda worker: worker.fitness(stage, libraries), default=None)
            if best is not None:
                idle.remove(best)
            spare = idle[:] if needed > memory.free() else []
            for worker in spare:  # what they have imported is worth less than the room
                idle.remove(worker)
        for worker in spare:
            worker.end()
        best = best or _start()
        best.stages |= {stage}
        best.libraries |= libraries
        return best

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._idle:
            worker.end()


@dataclass(slots=True, eq=False)
class _Worker:
    """A process that runs orders, the names of the stages that it ran, and the libraries that it has imported."""

    dialogue: Dialogue
    stages: frozenset[str] = frozenset()
    libraries: frozenset[str] = frozenset()
    orders: int = 0  # that it has answered

    def fitness(self, stage: str, libraries: frozenset[str]) -> tuple[bool, int]:
        """How much of what a stage needs is there already: more is better."""
        return stage in self.stages, len(self.libraries & libraries)

    def ask(self, order: dict[str, Json], what: str) -> dict[str, Json] | None:
        """Its answer to an order; None if it had ended before it could take it. What it says meanwhile is said here.

        Raises:
            MachineError: it ended before it answered, or could not be started.
        """
        self.dialogue.tell(json.dumps(order))
        taken = False
        for line in self.dialogue.answers():
            answer = _parse(line)
            if answer is None:
                break
            if "talk" in answer:
                log.log(answer["level"], "%s", answer["talk"])
            elif "taken" in answer:
                taken = True
            else:
                self.orders += 1
                return answer
        if self.orders and not taken:
            self.end()
            return None
        from builder.tools.process import describe_status

        status = describe_status(self.dialogue.end())
        raise MachineError(
            f"the worker of {what} {status}\n{self.dialogue.last_words}".rstrip(),
            mend="build with fewer --jobs: it may have needed more memory than there was",
        )

    def is_alive(self) -> bool:
        """Whether it can take an order; what is left of one that was killed is cleared away."""
        if not self.dialogue.has_ended:
            return True
        self.end()
        return False

    def end(self) -> None:
        self.dialogue.end()


def _start() -> _Worker:
    from builder.tools.process import Dialogue

    # It imports from where we do, and from nowhere else: not from a user's folder that holds a json.py.
    env = {**environment(), "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)}
    return _Worker(Dialogue([sys.executable, "-P", "-m", _ENTRY], what="a worker", env=env))


def _parse(line: str) -> dict[str, Json] | None:
    """What a worker says; None for a line that it was killed in the middle of."""
    try:
        answer: dict[str, Json] = json.loads(line)
    except ValueError:
        return None
    return answer


def _error(data: dict[str, Json]) -> Exception:
    kind: Any = getattr(errors, data["class"], InternalError)
    if kind is DamagedError:
        return DamagedError(Path(data["path"]), data["message"], mend=data["mend"])
    if issubclass(kind, TritonsmithError):
        raised: Exception = kind(data["message"], mend=data["mend"])
        return raised
    return InternalError(data["message"])
