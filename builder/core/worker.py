"""Runs stages from orders: ``python -m builder.core.worker [ORDER]``, with the order, JSON, in a file.

The one entry point for a stage that runs elsewhere: a process beside the builder now, a machine of a cluster later. It
asserts first that what was declared holds here too: the fingerprint that it computes itself must be the order's, with
the versions of libraries, the hardware, and all else that is in it. The output goes into the store; whoever gave the
order finds it there.

Without a file it takes orders from its standard input, one a line, until that ends: what one stage has imported, the
next need not (torch and transformers take seconds). It writes one JSON object a line: ``{"talk": …, "level": …}``
meanwhile, and for each order ``{"done": key, …}`` or ``{"error": …, …}`` with ``peak_bytes``, the memory that it took
at most, and ``resident_bytes``, what it still holds.
"""

from __future__ import annotations

import functools
import gc
import json
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from builder.core.digest import digest_json
from builder.core.execute import Executor
from builder.core.orders import decode
from builder.core.plan import differences
from builder.core.report import Silent
from builder.core.store import Store
from builder.errors import InternalError, MachineError, TritonsmithError
from builder.tools import memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from builder.artifacts import Json


def perform(order: dict[str, Json]) -> str:
    """Runs an order in this process; the key of what it made.

    Raises:
        MachineError: what the order declares does not hold here.
        DamagedError: an input is damaged. It was removed.
        TritonsmithError: the stage failed.
    """
    stage, inputs = decode(order["stage"]), decode(order["inputs"])
    executor = Executor(_store(order["store"], tuple(order["owned"])), reporter=Silent())
    here = executor.fingerprint(stage, inputs)
    if here != order["fingerprint"]:
        raise MachineError(
            f"{stage.name}: this was planned for something else than is here: "
            f"{', '.join(differences(order['fingerprint'], here))}",
            mend="install here what was planned with, or plan again",
        )
    executor.run(stage, inputs, order["node"])
    return digest_json(here)


@functools.cache
def _store(root: str, owned: tuple[str, ...]) -> Store:
    """One for all orders: it knows what this process has hashed."""
    return Store.at(Path(root), owned=tuple(map(Path, owned)))


def answer_of(order: dict[str, Json]) -> dict[str, Json]:
    """Runs an order in this process; what a worker answers: the key or the error, and the memory that it took."""
    memory.reset_peak()
    try:
        answer: dict[str, Json] = {"done": perform(order)}
    except TritonsmithError as error:
        facts = {"class": type(error).__name__, "message": error.message, "mend": error.mend}
        answer = {"error": {**facts, "path": str(getattr(error, "path", ""))}}
    except Exception:
        answer = {"error": {"class": InternalError.__name__, "message": traceback.format_exc(), "mend": ""}}
    peak_bytes = memory.peak()
    gc.collect()
    memory.give_back()
    return {**answer, "peak_bytes": peak_bytes, "resident_bytes": memory.resident()}


class _Talk(logging.Handler):
    def __init__(self, write: Callable[[dict[str, Json]], None]) -> None:
        super().__init__()
        self.write = write

    def emit(self, record: logging.LogRecord) -> None:
        self.write({"talk": record.getMessage(), "level": record.levelno})


def main(orders: Iterable[str]) -> None:
    """Runs orders, and answers each on a line of standard output. What else is printed there goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def write(answer: dict[str, Json]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    logger = logging.getLogger("builder")
    logger.addHandler(_Talk(write))
    logger.setLevel(logging.INFO)
    for line in orders:
        write(answer_of(json.loads(line)))


if __name__ == "__main__":
    main([Path(sys.argv[1]).read_text(encoding="utf-8")] if sys.argv[1:] else sys.stdin)
