"""The single-model contract: what ``serve`` decides, then ``/ping`` and ``/invocations``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from builder.errors import ServerError
from builder.tools import archive as archives
from builder.tools import triton_client, triton_server
from builder.tools.sagemaker_environment import DEFAULT_MODEL
from builder.tools.sagemaker_front_end import FrontEnd
from builder.verify.contract.asking import Route, ask_subject, refuses_nonsense
from builder.verify.contract.report import Check, Proven, answers
from builder.verify.contract.serve_script import REPOSITORY, decide

if TYPE_CHECKING:
    from pathlib import Path

    from builder.tools.triton_server import Server
    from builder.verify.contract.report import Host, Subject
    from builder.verify.contract.serve_script import Decision

log = logging.getLogger(__name__)

_OURS: Final = (
    "--sagemaker-port=",
    "--sagemaker-safe-port-range=",
    "--allow-grpc=",
    "--grpc-port=",
    "--allow-metrics=",
    "--metrics-port=",
)
"""Options that this machine decides: ports are free ones, and gRPC is how the tensors are learned."""


def prove_single_model(subject: Subject, host: Host) -> Proven:
    """Starts what ``serve`` would start on the unpacked archive or on the folder, and asks it.

    Raises:
        ArchiveError: the archive cannot be unpacked, or files beside it contradict it.
        MachineError: the server ended while it was asked.
    """
    repository = _mounted(subject.archive, host.folder / "model")
    decision = decide(repository, host.variables)
    decided = Check(
        "serve-decides",
        "one model to load",
        decision.refusal or f"--load-model={decision.default_model}",
        not decision.refusal,
    )
    if decision.refusal:
        return Proven(subject.archive, (decided,))
    log.info("serving %s as a single-model endpoint", decision.default_model)
    asked: list[Proven] = []
    variables = {**host.variables, DEFAULT_MODEL: decision.default_model}
    try:
        with triton_server.serve(
            repository,
            toolchain=host.toolchain,
            environment=host.environment,
            arguments=_arguments(decision),
            options=triton_server.Options(sagemaker=variables),
            log_path=host.folder / "server.log",
        ) as server:
            asked.append(_ask(server, subject, decision, decided))
    except ServerError as error:
        if asked:
            raise
        return Proven(subject.archive, (decided, Check("start", "ready", error.message, passed=False)))
    return asked[0]


def _mounted(path: Path, folder: Path) -> Path:
    """What is ``/opt/ml/model`` in the container: an archive is unpacked, the folder of an S3 prefix is as it is."""
    if path.is_dir():
        return path.absolute()
    archives.unpack(path, folder)
    return folder


def _arguments(decision: Decision) -> tuple[str, ...]:
    return tuple(word for word in decision.arguments if word != REPOSITORY and not word.startswith(_OURS))


def _ask(server: Server, subject: Subject, decision: Decision, decided: Check) -> Proven:
    front_end = FrontEnd(server.sagemaker_address)
    checks = [decided, Check("start", "ready", "ready", passed=True), answers("ping", front_end.ping(), 200)]
    with triton_client.connect(server.grpc_address) as client:
        route = Route(server, client, front_end, "", decision.default_model)
        asked, parity = ask_subject(route, subject)
    checks += [*asked, refuses_nonsense(route), answers("ping-after", front_end.ping(), 200)]
    return Proven(subject.archive, tuple(checks), parity)
