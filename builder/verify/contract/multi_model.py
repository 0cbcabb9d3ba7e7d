"""The multi-model contract: load, list, invoke, refuse, unload, as SageMaker does, against Triton's own front end."""

from __future__ import annotations

import json
import logging
import secrets
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.errors import ServerError
from builder.tools import archive as archives
from builder.tools import sagemaker_front_end, triton_client, triton_server
from builder.tools.sagemaker_front_end import MODELS, FrontEnd
from builder.verify.contract import probe
from builder.verify.contract.asking import Route, ask_subject, refuses_nonsense
from builder.verify.contract.report import Check, Proven, answers, tell
from builder.verify.contract.report import passed as all_passed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from builder.artifacts import Json
    from builder.tools.sagemaker_front_end import Answer
    from builder.tools.triton_client import Client
    from builder.tools.triton_server import Server
    from builder.verify.contract.report import Host, Subject

log = logging.getLogger(__name__)

VARIABLES: Final = {"SAGEMAKER_MULTI_MODEL": "true"}
"""What SageMaker itself sets."""

ARGUMENTS: Final = ("--model-namespacing=true",)
"""What ``serve`` adds in this mode, but for ports and logs."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A running multi-model endpoint, and where its archives are unpacked."""

    server: Server
    client: Client
    front_end: FrontEnd
    folder: Path
    prefix: str  # of the hashes that stand for its archives

    @contextmanager
    def unpacked(self, archive: Path) -> Iterator[tuple[str, str]]:
        """Unpacks an archive as SageMaker does.

        Yields:
            Its hash and its url.

        Raises:
            ArchiveError: it cannot be unpacked.
            MachineError: there is no place for it.
        """
        name = self.prefix + secrets.token_hex(8)
        archives.unpack(archive, self.folder / name / "model")
        with sagemaker_front_end.placed(self.folder / name, name) as url:
            yield name, url


@contextmanager
def endpoint(host: Host) -> Iterator[Endpoint]:
    """Runs an endpoint without models while the block runs.

    Raises:
        ServerError: it did not start, or ended.
    """
    prefix = f"tritonsmith.{secrets.token_hex(4)}."
    empty = host.folder / "empty"
    empty.mkdir()
    with (
        triton_server.serve(
            empty,  # it wants one; each archive is registered as another one
            toolchain=host.toolchain,
            environment=host.environment,
            arguments=ARGUMENTS,
            options=triton_server.Options(
                sagemaker={**host.variables, **VARIABLES},
                remove=(f"{MODELS}/{prefix}*",),  # links of a proof that is killed
            ),
            log_path=host.folder / "server.log",
        ) as server,
        triton_client.connect(server.grpc_address) as client,
    ):
        log.info("SageMaker's front end listens on port %s of all interfaces", server.sagemaker_address.split(":")[1])
        yield Endpoint(server, client, FrontEnd(server.sagemaker_address), host.folder, prefix)


def prove_multi_model(subjects: Sequence[Subject], host: Host) -> tuple[Proven, ...]:
    """Goes through the contract with each archive, all behind one front end.

    Returns:
        One for each archive, in order; and one for the front end itself.

    Raises:
        ArchiveError: an archive cannot be unpacked, or files beside it contradict it.
        MachineError: there is no place to unpack, or the server ended.
    """
    with endpoint(host) as running:
        before = answers("ping", running.front_end.ping(), 200)
        proven = [_prove(running, subject) for subject in subjects]
        return (*proven, Proven(None, (before, *_short_of_memory(running, host))))


def _prove(running: Endpoint, subject: Subject) -> Proven:
    log.info("%s: load, list, invoke, unload", subject.archive.name)
    with running.unpacked(subject.archive) as (name, url):
        front_end = running.front_end
        checks = [
            answers("unloaded-get", front_end.model(name), 404),
            answers("unloaded-invoke", front_end.invoke(name, b"{}"), 404),
            answers("unloaded-unload", front_end.unload(name), 404),
            answers("load", front_end.load(name, url), 200),
        ]
        if not checks[-1].passed:
            return Proven(subject.archive, tuple(checks))
        checks += [_listed(front_end.models(), name), answers("get", front_end.model(name), 200)]
        asked, parity = ask_subject(_route(running, name, name), subject)
        checks += [
            *asked,
            refuses_nonsense(_route(running, name, name)),
            answers("load-again", front_end.load(name, url), 409),
            answers("unload", front_end.unload(name), 200),
            answers("gone-get", front_end.model(name), 404),
            answers("gone-invoke", front_end.invoke(name, b"{}"), 404),
            _not_listed(front_end.models(), name),
        ]
        checks += _by_target(running, subject, name, url)
    return Proven(subject.archive, tuple(checks), parity)


def _route(running: Endpoint, name: str, model: str, target: str = "") -> Route:
    return Route(running.server, running.client, running.front_end, name, model, target)


def _by_target(running: Endpoint, subject: Subject, name: str, url: str) -> Iterator[Check]:
    """Once more, with the header by which SageMaker names the archive: Triton's model is then called so."""
    front_end, target = running.front_end, subject.archive.name
    loaded = answers("target-load", front_end.load(name, url, target), 200)
    yield loaded
    if not loaded.passed:
        return
    answer = front_end.invoke(name, b"{}", target=target)
    # The request is none: what matters is that the model is found, and is what refuses it.
    found = answer.status == 400 and "unknown model" not in answer.error
    yield Check("target-invoke", "reaches the model", tell(answer), found)
    yield answers("target-unload", front_end.unload(name, target), 200)


def _listed(answer: Answer, name: str) -> Check:
    listed = [model.get("modelName") for model in _models(answer)]
    return Check("list", "200, names the model", f"{answer.status}: {listed}", answer.status == 200 and name in listed)


def _not_listed(answer: Answer, name: str) -> Check:
    listed = [model.get("modelName") for model in _models(answer)]
    return Check("gone-list", "200, does not name it", f"{answer.status}: {listed}", name not in listed)


def _models(answer: Answer) -> list[dict[str, Json]]:
    try:
        models: list[dict[str, Json]] = json.loads(answer.body)["models"]
    except (ValueError, LookupError, TypeError) as error:
        raise ServerError(f"GET /models: {answer.status}: {answer.body[:80]!r}") from error
    return models


def _short_of_memory(running: Endpoint, host: Host) -> list[Check]:
    """A model that needs more memory than any machine has, beside one that is there: 507, and the other one stays.

    Both are models of ours, for what is asked about is the front end: whether it tells a host to make room.
    """
    log.info("a model for which memory is short")
    front_end = running.front_end
    with ExitStack() as stack:
        small, large = (
            stack.enter_context(running.unpacked(probe.pack(host.folder / f"{kind}.tar.gz", too_large=kind == "large")))
            for kind in ("small", "large")
        )
        checks = [
            answers("probe-load", front_end.load(*small), 200),
            answers("memory-short", front_end.load(*large), 507),
            answers("memory-short-get", front_end.model(large[0]), 404),
            answers("memory-short-again", front_end.load(*large), 507),
        ]
        if all_passed(checks[:1]):
            checks += [
                probe.answers_right("probe-invoke", front_end, small[0]),
                answers("probe-unload", front_end.unload(small[0]), 200),
            ]
    return [*checks, _ping_after(running, host)]


def _ping_after(running: Endpoint, host: Host) -> Check:
    """With the variable ``SAGEMAKER_TRITON_PING_MODE`` at live, one model that did not load harms nobody's health."""
    live = host.variables.get("SAGEMAKER_TRITON_PING_MODE") == "live"
    answer = running.front_end.ping()
    return answers("ping-after-failed-load", answer, 200) if live else answers("ping-after-failed-load", answer, 400)
