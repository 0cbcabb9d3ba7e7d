"""A tritonserver that serves one model repository on loopback, and never outlives its caller."""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from builder.errors import MachineError, ServerError
from builder.settings import environment as process_environment
from builder.tools import server_leftovers, server_log
from builder.tools.process import Process, describe_status
from builder.tools.toolchain import allow_open_files, backends

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.tools.toolchain import Toolchain

log = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - where Linux keeps POSIX shared memory (shm_overview(7))
_POLL_SECONDS = 0.02
_TALK_SECONDS = 5.0  # how often a slow start says that it still waits
_DEATH_SECONDS = 2.0  # how long a server that does not answer may take to be seen as dead
_ATTEMPTS = 5  # when another process takes a port between our choice and the server's bind
_LOG_BYTES = 16 << 20  # a server that has written more than this before it is ready only complains
_SAGEMAKER: Final = "SAGEMAKER_"  # variables that the front end obeys: those of a host, never of this machine
_NOT_ITS_BUSINESS = (  # Python steps of anybody's archive would see them
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
)
# The Python backend hands the paths of stub and model to a shell, unquoted (stub_launcher.cc).
_SHELL_SAFE = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
_ENSEMBLE: Final = re.compile(r'^\s*platform\s*:\s*"ensemble"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Options:
    """How the server runs. A port of None means a free one."""

    http_port: int | None = None
    grpc_port: int | None = None
    metrics_port: int | None = None
    complete_config: bool = True  # Triton's own default; False (``--disable-auto-complete-config``) loads 1 s faster
    cache_bytes: int | None = None  # size of the local response cache; None: no cache
    start_seconds: float = 300.0  # how long it may take until the server and its models are ready
    sagemaker: Mapping[str, str] | None = None  # SageMaker's front end is on, and these are its container's variables
    remove: tuple[str, ...] = ()  # patterns of files that are removed once it has ended, however that came


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. Addresses are ``host:port``."""

    name: str  # its ``--id``, unique
    http_address: str
    grpc_address: str
    metrics_address: str
    pid: int
    log_path: Path
    process: Process
    sagemaker_address: str = ""  # of SageMaker's front end, where it is on

    def check(self) -> None:
        """Checks that the server still runs.

        Raises:
            ServerError: it has ended; the message shows the last lines of its log.
        """
        if (code := self.process.returncode) is not None:
            text = server_log.tail(self.log_path)
            raise ServerError(f"tritonserver {describe_status(code)} while it was in use{text}")


@dataclass(frozen=True, slots=True)
class _Plan:
    """All that a start needs, but the ports."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    options: Options
    log_path: Path
    remove_orphaned: tuple[str, ...]


@contextmanager
def serve(
    repository: Path,
    *,
    toolchain: Toolchain,
    environment: Path,
    load: Sequence[str] = (),
    arguments: Sequence[str] = (),
    options: Options = Options(),
    log_path: Path | None = None,
) -> Iterator[Server]:
    """Serves a repository, in explicit model control mode, while the block runs.

    The server is killed when the block ends, however it ends, and when this process dies, however it dies.

    Args:
        repository: the model repository; nothing is written into it.
        toolchain: the installed toolchain.
        environment: the Python environment of the stubs.
        load: models to load; the block begins when all of them are ready.
        arguments: further arguments of tritonserver.
        options: ports, strictness, cache.
        log_path: where the server's log is kept; default: a temporary file, removed at the end. Temporary files lie
            beside it, if that path survives a shell: then a caller that is killed leaves nothing elsewhere, not even
            in the moment before the server has its guardian.

    Raises:
        ServerError: it did not start, did not load a model, or died while the block ran; with its log's lines.
        MachineError: this machine cannot run it.
    """
    allow_open_files()
    beside = log_path.absolute().parent if log_path else None
    below = beside if beside and _SHELL_SAFE.fullmatch(str(beside)) else None
    with tempfile.TemporaryDirectory(prefix="tritonsmith-server-", dir=below) as folder:
        temporary = Path(folder)
        folders = (_speakable(repository, temporary), _speakable(backends(toolchain, environment), temporary))
        path = (log_path or temporary / "server.log").absolute()
        path.unlink(missing_ok=True)
        at_start, later = _in_turn(repository, load)
        plan = _Plan(
            (*_command(toolchain, folders, options), *(f"--load-model={model}" for model in at_start), *arguments),
            _environment(toolchain, environment, options.sagemaker),
            options,
            path,
            (f"{temporary}/*", str(temporary)),
        )
        server = _start(plan)
        try:
            for model in later:
                _load(server, model, options.start_seconds)
            yield server
            server.check()
        except Exception:
            # A dead server is the cause of whatever its client met.
            if server.process.returncode is None and not _is_ready(server):
                server.process.wait(_DEATH_SECONDS)
            server.check()
            raise
        finally:
            unpacked = server_leftovers.environments(server.name)
            server.process.end()
            for place in unpacked:
                shutil.rmtree(place, ignore_errors=True)


def _in_turn(repository: Path, load: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Which models the server loads while it starts, and which one by one when it has.

    Seen on 2.51: ensembles that are loaded at the same time and share models may wait for each other for ever.
    """
    configs = (repository / model / "config.pbtxt" for model in load)
    alone = any(config.is_file() and _ENSEMBLE.search(config.read_text(errors="replace")) for config in configs)
    return (load[:1], load[1:]) if alone else (load, ())


def _load(server: Server, model: str, timeout_seconds: float) -> None:
    """Has a running server load a model.

    Raises:
        ServerError: it does not, with its reason; or not in time.
    """
    with closing(http.client.HTTPConnection(server.http_address, timeout=timeout_seconds)) as connection:
        try:
            connection.request("POST", f"/v2/repository/models/{quote(model, safe='')}/load", body="{}")
            answer = connection.getresponse()
            said = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(
                f"tritonserver did not load {model}: {error}{server_log.tail(server.log_path)}"
            ) from error
    if answer.status != http.HTTPStatus.OK:
        raise ServerError(f"tritonserver did not load {model}: {said}{server_log.reasons(server.log_path)}")


def _speakable(folder: Path, temporary: Path) -> Path:
    """The folder, through a link where its path would not survive a shell."""
    absolute = folder.absolute()
    if _SHELL_SAFE.fullmatch(str(absolute)):
        return absolute
    link = temporary / f"link-{len(list(temporary.iterdir()))}"
    if not _SHELL_SAFE.fullmatch(str(link)):
        raise MachineError(
            f"temporary folder {temporary.parent}: its path has characters that Triton's Python backend cannot take",
            mend="set TMPDIR to a path of letters and digits",
        )
    link.symlink_to(absolute)
    return link


def _command(toolchain: Toolchain, folders: tuple[Path, Path], options: Options) -> list[str]:
    """The server's command line, without ports and models."""
    repository, backend_folder = folders
    command = [
        str(toolchain.tritonserver),
        f"--model-repository={repository}",
        f"--backend-directory={backend_folder}",
        f"--cache-directory={toolchain.caches}",
        "--model-control-mode=explicit",
        f"--http-address={HOST}",
        f"--grpc-address={HOST}",
        f"--metrics-address={HOST}",
        f"--allow-sagemaker={str(options.sagemaker is not None).lower()}",
        "--allow-vertex-ai=false",
    ]
    if not options.complete_config:
        command.append("--disable-auto-complete-config")
    if options.cache_bytes is not None:
        command.append(f"--cache-config=local,size={options.cache_bytes}")
    return command


def _environment(toolchain: Toolchain, environment: Path, sagemaker: Mapping[str, str] | None = None) -> dict[str, str]:
    """The server's environment: the stubs import from ``environment`` alone."""
    # PYTHONPATH and its kind need no care: the stubs embed an isolated interpreter, which ignores them.
    ours = {
        name: value
        for name, value in process_environment().items()
        if name not in _NOT_ITS_BUSINESS and not name.startswith(_SAGEMAKER)
    } | dict(sagemaker or {})
    libraries = [str(environment / "lib-python"), str(toolchain.libraries), ours.get("LD_LIBRARY_PATH", "")]
    return {
        **ours,
        "PATH": f"{environment / 'bin'}:{ours.get('PATH', os.defpath)}",
        "LD_LIBRARY_PATH": ":".join(folder for folder in libraries if folder),
    }


def _start(plan: _Plan) -> Server:
    """Starts the server and waits until it is ready; tries again when somebody took a port that we had chosen."""
    for attempt in range(1, _ATTEMPTS + 1):
        server = _launch(plan)
        try:
            _wait_until_ready(server, plan.options.start_seconds)
        except BaseException as error:
            server.process.end()
            if attempt == _ATTEMPTS or not isinstance(error, ServerError) or not server_log.lost_port(plan.log_path):
                raise
            log.debug("a port was taken between choice and use: %s", server)
            plan.log_path.unlink()
        else:
            return server
    raise AssertionError  # the last attempt returns or raises


def _launch(plan: _Plan) -> Server:
    ports = _choose_ports(plan.options)
    # A name for each server: it can be told from another one on a port that it lost, and its shared memory, too.
    name = f"tritonsmith-{os.getpid()}-{secrets.token_hex(4)}"
    process = Process(
        [
            *plan.command,
            f"--id={name}",
            *(f"--{service}-port={port}" for service, port in ports.items()),
            f"--backend-config=python,shm-region-prefix-name={name}-",
        ],
        what="tritonserver",
        log_path=plan.log_path,
        env=plan.environment,
        grace_seconds=0.0,  # it holds nothing that is worth two seconds of unloading
        remove=[f"{SHARED_MEMORY}/{name}-*", *plan.options.remove],
        remove_orphaned=plan.remove_orphaned,
    )
    http, grpc, metrics = (f"{HOST}:{ports[service]}" for service in ("http", "grpc", "metrics"))
    sagemaker = f"{HOST}:{ports['sagemaker']}" if "sagemaker" in ports else ""
    return Server(name, http, grpc, metrics, process.pid, plan.log_path, process, sagemaker)


def _choose_ports(options: Options) -> dict[str, int]:
    """A port for each service: the one that was asked for, or a free one.

    Raises:
        ServerError: a port that was asked for is taken.
    """
    asked = {"http": options.http_port, "grpc": options.grpc_port, "metrics": options.metrics_port}
    asked |= {} if options.sagemaker is None else {"sagemaker": None}
    with ExitStack() as held:
        sockets = {name: held.enter_context(_bind(name, port)) for name, port in asked.items()}
        return {name: bound.getsockname()[1] for name, bound in sockets.items()}


def _bind(name: str, port: int | None) -> socket.socket:
    bound = socket.socket()
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((HOST, port or 0))
    except OSError as error:
        bound.close()
        raise ServerError(
            f"tritonserver: {name} port {port} on {HOST}: {error.strerror}",
            mend="end the program that uses it, or choose another port; without a choice, free ones are taken",
        ) from error
    return bound


def _wait_until_ready(server: Server, timeout_seconds: float) -> None:
    """Waits until the server, with the models that it was told to load, is ready.

    Raises:
        ServerError: it ended, is not ready in time, or floods its log.
    """
    began = time.monotonic()
    talk = began + _TALK_SECONDS
    while not _is_ready(server):
        code = server.process.wait(_POLL_SECONDS)
        if code is not None:
            text = server_log.reasons(server.log_path)
            raise ServerError(f"tritonserver did not start, it {describe_status(code)}{text}")
        if server.log_path.stat().st_size > _LOG_BYTES:
            text = server_log.reasons(server.log_path)
            raise ServerError(f"tritonserver did not start: its log is longer than {_LOG_BYTES >> 20} MiB{text}")
        now = time.monotonic()
        if now - began > timeout_seconds:
            text = server_log.tail(server.log_path)
            raise ServerError(f"tritonserver is not ready after {timeout_seconds:.0f} s{text}")
        if now > talk:
            log.info("tritonserver loads its models, %.0f s so far", now - began)
            talk += _TALK_SECONDS


def _is_ready(server: Server) -> bool:
    """Whether this very server, and not another program on its port, is ready."""
    with closing(http.client.HTTPConnection(server.http_address, timeout=1)) as connection:
        try:
            connection.request("GET", "/v2/health/ready")
            answer = connection.getresponse()
            answer.read()
            if answer.status != http.HTTPStatus.OK:
                return False
            connection.request("GET", "/v2")
            ours = bool(json.loads(connection.getresponse().read())["name"] == server.name)
            return ours and (not server.sagemaker_address or _answers(server.sagemaker_address))
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
            return False


def _answers(address: str) -> bool:
    """Whether SageMaker's front end is there: it starts after the others."""
    with closing(http.client.HTTPConnection(address, timeout=1)) as connection:
        connection.request("GET", "/ping")
        return connection.getresponse().status > 0
