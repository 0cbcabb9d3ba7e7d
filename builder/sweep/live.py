"""A running server over a repository of our own, whose configs are changed while it runs."""

from __future__ import annotations

import logging
import shutil
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from builder.config.folder import write_config
from builder.errors import ServerError, TritonsmithError, UserError
from builder.sweep.configs import CONFIG
from builder.sweep.knobs import CACHE, changes, edited
from builder.sweep.server_facts import GPU_MILLISECONDS
from builder.tools import server_log, triton_client, triton_server
from builder.tools import toolchain as toolchains
from builder.tools.releases import release
from builder.verify.measure import unpack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import Json
    from builder.sweep.setting import Setting
    from builder.sweep.subject import Subject
    from builder.tools.toolchain import Toolchain
    from builder.tools.triton_client import Client
    from builder.tools.triton_server import Server

log = logging.getLogger(__name__)

_CACHE_BYTES = 256 << 20  # of the response cache, where a setting turns it on
_LOAD_SECONDS = 120.0
_START_SECONDS = 300.0


class RefusedError(ServerError):
    """The server does not take a setting; the message is its reason."""


class Live:
    """A served subject. The repository is a copy: configs are files, all else are links.

    Args:
        subject: what is served.
        folder: an empty folder for the copy and the log.
        tools: the toolchain.
        cache: where server environments lie.
    """

    def __init__(self, subject: Subject, folder: Path, tools: Toolchain, cache: Path) -> None:
        self.subject = subject
        self.folder = folder
        self._tools = tools
        self._cache = cache
        self._repository = folder / "repository"
        self._written: dict[str, Mapping[str, Json]] = {}
        self._running = ExitStack()
        self._server: Server | None = None
        self._client: Client | None = None
        self._has_cache = False
        self.setting: Setting | None = None  # what is loaded; None: nothing, or nobody knows

    @property
    def server(self) -> Server:
        """The running server."""
        assert self._server is not None
        return self._server

    @property
    def client(self) -> Client:
        """A connection to it."""
        assert self._client is not None
        return self._client

    @property
    def runs(self) -> bool:
        """Whether the server has not ended."""
        return self._server is not None and self._server.process.returncode is None

    def apply(self, setting: Setting) -> None:
        """Has the server use a setting; starts it where it does not run.

        Raises:
            RefusedError: the server does not load the models with it, or uses something else.
            UserError: a knob is unknown.
        """
        if self.runs and setting == self.setting:
            return
        configs = edited(self.subject, setting)
        self.setting = None
        needs_cache = bool(setting.get(CACHE)) or _is_cached(self.subject)
        try:
            self._write(configs)
            if not self.runs or (needs_cache and not self._has_cache):
                self._start(needs_cache)
            else:
                self._load()
            self._check(setting)
        except (ServerError, UserError) as error:
            told = self._told() if "failed to poll" in error.message else ""
            self.close()  # what is loaded now, nobody knows
            raise RefusedError(error.message + told) from error
        self.setting = setting

    def close(self) -> None:
        """Ends the server."""
        self.setting = None
        with suppress(TritonsmithError):  # that it is dead is why it may be closed
            self._running.close()
        self._server = self._client = None

    def statistics(self) -> dict[str, Mapping[str, Json]]:
        """Counts and times of each of the subject's models, as the server has them."""
        found: dict[str, Mapping[str, Json]] = {}
        for model in self.subject.configs:
            with suppress(ServerError):  # a model that nobody has asked for is not loaded
                found[model] = self.client.statistics(model)
        return found

    def _write(self, configs: Mapping[str, Mapping[str, Json]]) -> None:
        if not self._repository.exists():
            _copy(self.subject, self._repository)
        for model, config in configs.items():
            if self._written.get(model) != config:
                place = self._repository / model / CONFIG
                temporary = place.with_suffix(".new")
                write_config(config, temporary, self.subject.triton)
                temporary.replace(place)
                self._written[model] = config

    def _start(self, with_cache: bool) -> None:
        self.close()
        facts = self.subject.facts
        known = release(self.subject.triton).onnxruntime
        if known is None:
            raise UserError(f"the onnxruntime of release {self.subject.triton} is not known")
        environment = toolchains.python_environment(
            self._tools,
            self._cache,
            known,
            minor=facts.python if facts else None,
            libraries=facts.libraries if facts else (),
        )
        options = triton_server.Options(
            complete_config=True, cache_bytes=_CACHE_BYTES if with_cache else None, start_seconds=_START_SECONDS
        )
        self._running = ExitStack()
        self._server = self._running.enter_context(
            triton_server.serve(
                self._repository,
                toolchain=self._tools,
                environment=environment,
                load=self.subject.load,
                arguments=(f"--metrics-interval-ms={GPU_MILLISECONDS}",),
                options=options,
                log_path=self.folder / "server.log",
            )
        )
        self._client = self._running.enter_context(triton_client.connect(self._server.grpc_address))
        self._has_cache = with_cache

    def _load(self) -> None:
        # Models that an ensemble is made of are loaded with it, if their files have changed.
        for model in self.subject.load:
            self.client.load(model, timeout_seconds=_LOAD_SECONDS)

    def _told(self) -> str:
        """What the log says of it, where the answer says only that there is something."""
        return server_log.reasons(self.folder / "server.log")

    def _check(self, setting: Setting) -> None:
        for change in changes(self.subject, setting):
            if misread := change.misread(self.client.config(change.model)):
                raise ServerError(misread)


def _is_cached(subject: Subject) -> bool:
    return any(config.get("response_cache", {}).get("enable") for config in subject.configs.values())


def _copy(subject: Subject, folder: Path) -> None:
    """The subject's files: an archive's own, else links to those of the repository; of its configs, no links."""
    if subject.path.is_dir():
        for model in subject.configs:
            shutil.copytree(subject.path / model, folder / model, copy_function=_link)
        return
    assert subject.facts is not None  # of every archive
    unpack(subject.facts, folder)


def _link(source: str, target: str) -> str:
    Path(target).symlink_to(Path(source).resolve())
    return target
