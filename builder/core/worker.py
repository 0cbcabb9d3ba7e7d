"""Runs one stage from an order: ``python -m builder.core.worker``, with the order as JSON on a line of its own file.

The one entry point for a stage that runs elsewhere: a process beside the builder now, a machine of a cluster later. It
asserts first that what was declared holds here too: the fingerprint that it computes itself must be the order's, with
the versions of libraries, the hardware, and all else that is in it. The output goes into the store; whoever gave the
order finds it there.

It writes one JSON object a line: ``{"talk": …}`` meanwhile, and at last ``{"done": key}`` or ``{"error": …}``.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import errors
from builder.core.digest import digest_json
from builder.core.execute import Executor, fingerprint_of
from builder.core.orders import decode, encode
from builder.core.plan import differences
from builder.core.report import Silent
from builder.core.store import Store
from builder.errors import DamagedError, InternalError, MachineError, TritonsmithError
from builder.tools import process

if TYPE_CHECKING:
    from builder.artifacts import Json
    from builder.core.stage import Stage

log = logging.getLogger(__name__)

LONGEST_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Workers:
    """Runs stages that ask for it (``apart``) in processes of their own, and all others here.

    Args:
        executor: who runs what stays here, and finds what was made there.
    """

    executor: Executor

    def run(self, stage: Stage[Any, Any], inputs: Any, node: str) -> object:  # noqa: ANN401 - any stage's
        """As :meth:`builder.core.execute.Executor.run`.

        Raises:
            TritonsmithError: as if the stage had run here.
            MachineError: the worker was killed.
        """
        if not getattr(stage, "apart", False):
            return self.executor.run(stage, inputs, node)
        began, reporter = time.monotonic(), self.executor.reporter
        fingerprint = fingerprint_of(stage, inputs)
        if self.executor.store.find(digest_json(fingerprint)) is not None:
            return self.executor.run(stage, inputs, node)
        reporter.started(node)
        try:
            self._send(stage, inputs, node, fingerprint)
        except BaseException:
            reporter.failed(node, time.monotonic() - began)
            raise
        return self.executor.run(stage, inputs, node, began)

    def _send(self, stage: Stage[Any, Any], inputs: object, node: str, fingerprint: Json) -> None:
        store, answers = self.executor.store, []
        order = {
            "stage": encode(stage),
            "inputs": encode(inputs),
            "node": node,
            "fingerprint": fingerprint,
            "store": str(store.root),
            "owned": [str(folder) for folder in store.owned],
        }

        def listen(line: str) -> None:
            answer = _answer(line)
            if "talk" in answer:
                log.info("%s: %s", stage.name, answer["talk"])
            else:
                answers.append(answer)

        with store.scratch(json.dumps(order).encode()) as path:
            completed = process.run(
                [sys.executable, "-m", __name__, path],
                what=f"the worker of {stage.name}", timeout_seconds=LONGEST_SECONDS, check=False, on_line=listen,
            )  # fmt: skip
        last = answers[-1] if answers else {}
        if "error" in last:
            raise _error(last["error"])
        if "done" not in last:
            status = process.describe_status(completed.returncode)
            raise MachineError(
                f"the worker of {stage.name} {status}\n{completed.stderr[-2000:]}",
                mend="build with fewer --jobs: it may have needed more memory than there was",
            )


def _answer(line: str) -> dict[str, Json]:
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {"talk": line}


def _error(data: dict[str, Json]) -> Exception:
    kind: Any = getattr(errors, data["class"], InternalError)
    if kind is DamagedError:
        return DamagedError(Path(data["path"]), data["message"], mend=data["mend"])
    if issubclass(kind, TritonsmithError):
        raised: Exception = kind(data["message"], mend=data["mend"])
        return raised
    return InternalError(data["message"])


def perform(order: dict[str, Json]) -> str:
    """Runs an order in this process; the key of what it made.

    Raises:
        MachineError: what the order declares does not hold here.
        TritonsmithError: the stage failed.
    """
    stage, inputs = decode(order["stage"]), decode(order["inputs"])
    here = fingerprint_of(stage, inputs)
    if here != order["fingerprint"]:
        raise MachineError(
            f"{stage.name}: this was planned for something else than is here: "
            f"{', '.join(differences(order['fingerprint'], here))}",
            mend="install here what was planned with, or plan again",
        )
    store = Store.at(Path(order["store"]), owned=tuple(map(Path, order["owned"])))
    Executor(store, reporter=Silent()).run(stage, inputs, order["node"])
    return digest_json(here)


class _Talk(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _write({"talk": record.getMessage()})


def _write(answer: dict[str, Json]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main(path: Path) -> int:
    """Runs the order in a file; the exit code is 0 when its answer could be given."""
    logger = logging.getLogger("builder")
    logger.addHandler(_Talk())
    logger.setLevel(logging.INFO)
    try:
        _write({"done": perform(json.loads(path.read_bytes()))})
    except TritonsmithError as error:
        facts = {"class": type(error).__name__, "message": error.message, "mend": error.mend}
        _write({"error": {**facts, "path": str(getattr(error, "path", ""))}})
    except Exception:
        _write({"error": {"class": InternalError.__name__, "message": traceback.format_exc(), "mend": ""}})
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
