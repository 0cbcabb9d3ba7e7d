"""Asks the real server to load repositories, many at once."""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from builder.errors import ServerError
from builder.lint.options import STRICT
from builder.tools import triton_client, triton_server
from tests.lint import light
from tests.lint.repositories import write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from builder.tools.toolchain import Toolchain
    from tests.lint.repositories import Files

LOAD_SECONDS = 25.0  # far more than a load takes
AT_ONCE = 5
PER_SERVER = 250
STARTS = 3  # before a server is said not to start
ALONE = 6  # servers at once, for one case each


@dataclass(frozen=True)
class Case:
    """A repository of which one model is to be loaded."""

    name: str
    what: str  # which base, what was done to it
    top: str
    files: Files = field(repr=False)


@dataclass(frozen=True)
class Verdict:
    """What the server said: ``loaded`` None where it crashed or did not answer."""

    loaded: bool | None
    reason: str = ""


NOT_ASKED = Verdict(None, "not asked")
CRASHED = Verdict(None, "the server crashed")
HUNG = Verdict(None, "the server hung")


class Fleet:
    """Servers, one after the other: a new one after a crash, or when many models were loaded.

    Cases that need no numpy are asked in an environment without it, unless ``whole`` says otherwise.
    """

    def __init__(
        self,
        toolchain: Toolchain,
        environment: Path,
        folder: Path,
        mode: str,
        per_server: int = PER_SERVER,
        *,
        whole: bool = False,
    ) -> None:
        self._options = triton_server.Options(complete_config=mode != STRICT)
        self._is_light: Callable[[Case], bool] = lambda case: not whole and light.is_enough(case)
        environments = {False: environment, True: light.environment(environment, folder / "environment")}
        self._serve: Callable[[Path, Path, bool], Any] = lambda repository, log, is_light: triton_server.serve(
            repository,
            toolchain=toolchain,
            environment=environments[is_light],
            options=self._options,
            log_path=log,
            # A load that hangs keeps its thread for good.
            arguments=("--model-load-thread-count=64",),
        )
        self._folder = folder / f"server-{mode}"
        self._per_server = per_server
        self._numbers = itertools.count()

    def verdicts(self, cases: Sequence[Case]) -> dict[str, Verdict]:
        """The server's verdict on each case.

        Whoever was in flight when a server died may be innocent, and a busy machine may take long: they are asked
        again, each on a server of its own. (Ensembles that are loaded at once may wait for one another's models for
        good: 2.51 loses the wake-up.)
        """
        found = {}
        for is_light in (True, False):
            found |= self._ask_all([case for case in cases if self._is_light(case) == is_light], AT_ONCE)
        rest = [[case] for case in cases if found[case.name] in {CRASHED, HUNG}]
        with ThreadPoolExecutor(ALONE) as pool:
            for verdict in pool.map(lambda alone: self._ask_all(alone, 1), rest):
                found |= verdict
        return found

    def _ask_all(self, cases: Sequence[Case], at_once: int) -> dict[str, Verdict]:
        """Asks until each has an answer, on as many servers as that takes."""
        found: dict[str, Verdict] = {}
        rest, failed = list(cases), 0
        while rest:
            found |= self._ask(rest[: self._per_server], at_once)
            left = [case for case in rest if found.get(case.name, NOT_ASKED) == NOT_ASKED]
            failed = failed + 1 if len(left) == len(rest) else 0
            assert failed < STARTS, "the server does not start"
            rest = left
        return found

    def _ask(self, cases: Sequence[Case], at_once: int) -> dict[str, Verdict]:
        """Asks until all have an answer, or the server dies."""
        number = next(self._numbers)
        repository, log = self._folder / f"repository-{number}", self._folder / f"log-{number}"
        repository.mkdir(parents=True)
        for case in cases:
            write(case.files, repository)
        found = dict.fromkeys((case.name for case in cases), NOT_ASKED)
        dead = threading.Event()

        def ask(case: Case) -> None:
            if not dead.is_set():
                found[case.name] = load(client, case.top)
                if found[case.name] == CRASHED:
                    dead.set()

        try:
            with (
                self._serve(repository, log, all(map(self._is_light, cases))) as server,
                triton_client.connect(server.grpc_address) as client,
                ThreadPoolExecutor(at_once) as pool,
            ):
                for _ in pool.map(ask, cases):
                    pass
        except ServerError:
            pass  # it died: they are asked again
        _add_reasons(found, cases, log)
        return found


def _add_reasons(found: dict[str, Verdict], cases: Sequence[Case], log: Path) -> None:
    """What a server refuses while it polls, it tells only its log: from there."""
    text = log.read_text(errors="replace") if log.exists() else ""
    said = dict(re.findall(r"Poll failed for model directory '([^']+)': (.*)", text))
    for case in cases:
        verdict = found[case.name]
        words = [said[model] for model in said if any(path.startswith(f"{model}/") for path in case.files)]
        if verdict.loaded is False and words:
            found[case.name] = Verdict(False, f"{verdict.reason} {words}")


def load(client: triton_client.Client, model: str) -> Verdict:
    """Loads a model with all that it needs, and unloads it; the models of its steps stay for the next."""
    from tritonclient.utils import InferenceServerException

    try:
        client._grpc.load_model(model, client_timeout=LOAD_SECONDS)
    except InferenceServerException as error:
        return {"StatusCode.UNAVAILABLE": CRASHED, "StatusCode.DEADLINE_EXCEEDED": HUNG}.get(
            str(error.status()), Verdict(False, str(error))
        )
    with contextlib.suppress(InferenceServerException):  # the load is what counts
        client._grpc.unload_model(model, client_timeout=LOAD_SECONDS)
    return Verdict(True)
