"""The Hugging Face hub, or a mirror of it, through ``huggingface_hub``: exact commits only, everything checked.

Files land in the layout of the Hugging Face cache (``models--owner--name/blobs``, ``snapshots/<commit>``) below
``<cache>/hub``. The hub states a digest for every file of a commit: what does not match is removed again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from builder.artifacts import File
from builder.errors import ModelError, NetworkError, UserError
from builder.tools.atomic import replacing
from builder.tools.hub_errors import Request, translate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.artifacts import Json

log = logging.getLogger(__name__)

OFFICIAL_ENDPOINT: Final = "https://huggingface.co"
LISTING_TIMEOUT_SECONDS: Final = 30.0
PROGRESS_SECONDS: Final = 5.0  # between two lines about one download
_ATTEMPTS: Final = 3  # of one file, each of which huggingface_hub itself resumes up to five times
_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class HubFile:
    """What the hub states of one file: size in bytes, and sha256 (of LFS files) or git blob id (of the others)."""

    size: int | None
    sha256: str | None
    blob_id: str | None


@dataclass(frozen=True, slots=True)
class HubModel:
    """One commit of a model on a hub. ``files`` maps each of its names to what the hub states."""

    model_id: str
    revision: str
    files: Mapping[str, HubFile]
    hub: Hub

    def names(self, folder: str) -> list[str]:
        """Names of the files directly in a folder of the model; "" is its root."""
        prefix = f"{folder}/" if folder else ""
        below = [name.removeprefix(prefix) for name in self.files if name.startswith(prefix)]
        return sorted(name for name in below if "/" not in name)

    def fetch(self, names: Iterable[str]) -> dict[str, File]:
        """Downloads the files that are not in the cache yet, and checks all of them.

        Returns:
            Name → file, resolved (no symlinks) and hashed.

        Raises:
            ModelError: the hub refuses the token, the model is gated, or a file is not there.
            NetworkError: the hub cannot be reached, or sends something else than it states.
        """
        wanted = sorted(names)
        missing = [name for name in wanted if not self._path(name).exists()]
        if missing:
            megabytes = sum(self.files[name].size or 0 for name in missing if name in self.files) / 1e6
            log.info(
                "fetching %d files (%.1f MB) of %s from %s", len(missing), megabytes, self.model_id, self.hub.endpoint
            )
        return {name: self._fetch(name) for name in wanted}

    def _fetch(self, name: str) -> File:
        if name not in self.files:
            raise ModelError(f"{self.model_id}@{self.revision[:12]} has no file {name!r}")
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                path = self.hub.download(self.model_id, self.revision, name)
                return self._check(name, path)
            except NetworkError as error:
                if attempt == _ATTEMPTS:
                    raise
                log.info("%s: attempt %d of %d failed: %s", name, attempt, _ATTEMPTS, error.message)
                time.sleep(self.hub.pause_seconds)
        raise AssertionError  # the loop returns or raises

    def _check(self, name: str, path: Path) -> File:
        """The file, if it is what the hub states; otherwise it is removed, so that nobody takes it for whole."""
        stated, real = self.files[name], path.resolve()
        size, sha256, blob_id = _digests(real)
        wrong = [
            f"{what} {found} instead of {wanted}"
            for what, found, wanted in (
                ("size", size, stated.size),
                ("sha256", sha256, stated.sha256),
                ("git blob", blob_id, stated.blob_id if stated.sha256 is None else None),
            )
            if wanted is not None and found != wanted
        ]
        if wrong:
            path.unlink()
            real.unlink(missing_ok=True)
            raise NetworkError(
                f"{self.model_id}: {name} is not what {self.hub.endpoint} states: {', '.join(wrong)}",
                mend="try again; if it stays so, a proxy or mirror (HF_ENDPOINT) changes files",
            )
        return File(path=real, sha256=sha256, size=size)

    def _path(self, name: str) -> Path:
        return self.hub.repository_folder(self.model_id) / "snapshots" / self.revision / name


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub as one user sees it.

    Args:
        endpoint: its address, without a slash at the end.
        token: of the user; None for none.
        folder: where files and listings are kept.
        pause_seconds: between two attempts.
    """

    endpoint: str
    token: str | None
    folder: Path
    pause_seconds: float = 1.0

    def open(self, model_id: str, revision: str) -> HubModel:
        """A commit of a model. Its list of files is asked for once and kept: a commit does not change.

        Raises:
            ModelError: there is no such model or commit, it is gated, or the token is missing or refused.
            NetworkError: the hub cannot be reached or does not answer like one.
        """
        kept = self.repository_folder(model_id) / "listings" / f"{revision}.json"
        files = _read_listing(kept)
        if files is None:
            files = self._list(model_id, revision)
            _write_listing(kept, files)
        return HubModel(model_id=model_id, revision=revision, files=files, hub=self)

    def repository_folder(self, model_id: str) -> Path:
        """The model's folder in the layout of the Hugging Face cache."""
        return self.folder / f"models--{model_id.replace('/', '--')}"

    def _list(self, model_id: str, revision: str) -> dict[str, HubFile]:
        from huggingface_hub import HfApi

        self._prepare()
        api = HfApi(endpoint=self.endpoint, token=self.token or False, library_name="tritonsmith")
        try:
            info = api.model_info(model_id, revision=revision, files_metadata=True, timeout=LISTING_TIMEOUT_SECONDS)
        except Exception as error:
            raise translate(error, self._request(model_id, revision, "its list of files")) from error
        if info.sha != revision:
            raise NetworkError(f"{self.endpoint} answered commit {info.sha} of {model_id} when asked for {revision}")
        return {
            file.rfilename: HubFile(file.size, file.lfs.sha256 if file.lfs else None, file.blob_id)
            for file in info.siblings or ()
        }

    def download(self, model_id: str, revision: str, name: str) -> Path:
        """One file, from the cache or the hub: the path of its link in the snapshot's folder.

        A cut connection is resumed where it was cut. A file appears under its name only once it is whole.

        Raises:
            ModelError: see :meth:`open`.
            NetworkError: see :meth:`open`.
            OSError: the cache cannot be written.
        """
        from huggingface_hub import hf_hub_download

        self._prepare()
        try:
            path = hf_hub_download(
                model_id,
                name,
                revision=revision,
                cache_dir=self.folder,
                endpoint=self.endpoint,
                token=self.token or False,
                library_name="tritonsmith",
                tqdm_class=_Progress,
            )
        except Exception as error:
            raise translate(error, self._request(model_id, revision, name)) from error
        return Path(path)

    def _request(self, model_id: str, revision: str, what: str) -> Request:
        return Request(self.endpoint, self.folder, model_id, revision, what, with_token=bool(self.token))

    def _prepare(self) -> None:
        """Settings that huggingface_hub otherwise takes from the environment when it is imported."""
        from huggingface_hub import constants
        from huggingface_hub.utils import logging as hub_logging

        if not self.endpoint.startswith(("http://", "https://")):
            raise UserError(f"HF_ENDPOINT is {self.endpoint!r}, which is no address", mend="write https://…")
        constants.HF_HUB_DISABLE_TELEMETRY = True
        # Xet is a second service beside the hub, and a mirror or proxy of the hub does not carry it.
        constants.HF_HUB_DISABLE_XET = constants.HF_HUB_DISABLE_XET or self.endpoint != OFFICIAL_ENDPOINT
        hub_logging.set_verbosity_error()


class _Progress:
    """Stands in for tqdm: a line in the log now and then, instead of a redrawn bar."""

    def __init__(self, *_: object, desc: str = "", total: int | None = None, initial: int = 0, **__: object) -> None:
        self._what = desc
        self._total = total
        self._done = initial
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, size: float | None = 1) -> None:
        self._done += int(size or 0)
        if time.monotonic() - self._said >= PROGRESS_SECONDS:
            self._said = time.monotonic()
            of = f" of {self._total / 1e6:.1f}" if self._total else ""
            log.info("%s: %.1f%s MB", self._what, self._done / 1e6, of)

    def close(self) -> None:
        pass


def _digests(path: Path) -> tuple[int, str, str]:
    """Size in bytes, sha256, and git blob id, from one reading."""
    size = path.stat().st_size
    sha256, git = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            sha256.update(block)
            git.update(block)
    return size, sha256.hexdigest(), git.hexdigest()


def _read_listing(path: Path) -> dict[str, HubFile] | None:
    try:
        data: Json = json.loads(path.read_text(encoding="utf-8"))
        return {name: HubFile(**entry) for name, entry in data.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None  # not asked for yet, or damaged: asked for again


def _write_listing(path: Path, files: Mapping[str, HubFile]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as descriptor, os.fdopen(descriptor, "w", encoding="utf-8", closefd=False) as stream:
        json.dump({name: asdict(file) for name, file in files.items()}, stream)
