"""A running server on an archive or on anybody's repository: what ``tritonsmith serve`` does.

Beside :mod:`builder.building`, because nothing is built: an archive is unpacked as it ships, a repository is served
where it lies.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.core.store import NAME
from builder.core.workspace import workspace
from builder.errors import ArchiveError, UserError, disk_error
from builder.package import BUILD_FILE, manifest_path, read_manifest
from builder.package.places import stem
from builder.settings import settings
from builder.tools import archive as archives
from builder.tools import toolchain, triton_proto, triton_server
from builder.tools.releases import release

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.package import Manifest
    from builder.tools.triton_server import Server

DEFAULT_RELEASE: Final = "25.09"
"""For repositories that nobody says a release of: the one that recipes default to."""

_CONFIG: Final = "config.pbtxt"
_ENSEMBLE: Final = re.compile(r'^\s*platform\s*:\s*"ensemble"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports that were asked for; None: a free one."""

    http: int | None = None
    grpc: int | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """A running server and the models that were loaded."""

    server: Server
    models: tuple[str, ...]


@contextmanager
def running(path: Path, *, triton: str | None, ports: Ports) -> Iterator[Served]:
    """Serves while the block runs.

    Args:
        path: an archive; or a model repository, which is served where it lies.
        triton: the Triton release whose onnxruntime serves; None: the archive's, else :data:`DEFAULT_RELEASE`.
        ports: the ports to listen on.

    Raises:
        UserError: there is nothing at the path, or it is no archive and no repository.
        BlockedError: its plans are for GPUs that this machine has not.
        ServerError: the server did not start, did not load a model, or ended.
    """
    if (manifest := _manifest_of(path)) is not None:
        manifest.check_gpus(path)
    cache = settings().cache
    version = release(triton or _release_of(path)).onnxruntime
    if version is None:
        raise UserError(f"--triton: the onnxruntime of release {triton} is not known", mend="name another release")
    with workspace(cache / NAME) as folder:
        repository = path if path.is_dir() else _unpacked(path, folder / "repository")
        models = loadable(repository)
        tools = toolchain.install(cache)
        libraries = manifest.libraries if manifest is not None else ()
        environment = toolchain.python_environment(tools, cache, version, minor=_python_of(path), libraries=libraries)
        options = triton_server.Options(http_port=ports.http, grpc_port=ports.grpc)
        log_path = folder / "server.log"
        with triton_server.serve(
            repository, toolchain=tools, environment=environment, load=models, options=options, log_path=log_path
        ) as server:
            yield Served(server, models)


def loadable(repository: Path) -> tuple[str, ...]:
    """The models to load: those that a build says; else the ensembles, which bring their steps along; else all models.

    Raises:
        UserError: there is no such folder, or it is no model repository.
        MachineError: the folder cannot be read.
    """
    if not repository.is_dir():
        raise ArchiveError(f"{repository}: no such folder", mend="name an archive or a model repository")
    try:
        return _models(repository)
    except OSError as error:
        raise disk_error(repository, error) from error


def _models(repository: Path) -> tuple[str, ...]:
    folders = sorted(folder for folder in repository.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if (repository / _CONFIG).exists():
        raise UserError(
            f"{repository}: is one model's folder, not a model repository",
            mend=f"serve the folder above it: {repository.absolute().parent}",
        )
    models = [folder.name for folder in folders if _has_version(folder)]
    if not models:
        raise UserError(
            f"{repository}: holds no model: a model repository has <model>/<version>/ below it",
            mend="name an archive that tritonsmith built, or a Triton model repository",
        )
    for model in models:
        if stated := _stated(repository / model / BUILD_FILE):
            return tuple(name for name in stated if name in models)
    ensembles = [model for model in models if _is_ensemble(repository / model / _CONFIG)]
    return tuple(ensembles or models)


def _has_version(folder: Path) -> bool:
    return any(child.is_dir() and child.name.isdigit() for child in folder.iterdir())


def _stated(build: Path) -> list[str]:
    """What a pipeline's own file says: models that a step calls come with nobody."""
    if not build.is_file():
        return []
    try:
        stated = json.loads(build.read_text(encoding="utf-8")).get("load_models", [])
    except (ValueError, AttributeError):
        return []  # anybody's file of that name
    return [name for name in stated if isinstance(name, str)] if isinstance(stated, list) else []


def _is_ensemble(config: Path) -> bool:
    return config.is_file() and bool(_ENSEMBLE.search(config.read_text(encoding="utf-8", errors="replace")))


def _manifest_of(path: Path) -> Manifest | None:
    """What is said of an archive, or of a folder that was built here, beside it; None where nothing is."""
    if not path.exists():
        return None
    manifest = manifest_path(path)
    return read_manifest(manifest) if manifest.is_file() else None


def _release_of(path: Path) -> str:
    """What the manifest beside an archive says; the default where there is none."""
    manifest = _manifest_of(path)
    return manifest.target.triton if manifest is not None else DEFAULT_RELEASE


def _python_of(path: Path) -> tuple[int, int] | None:
    """The only Python that the steps of an archive run on; None: any, or nobody says it."""
    manifest = _manifest_of(path)
    return manifest.python if manifest is not None else None


def _unpacked(path: Path, folder: Path) -> Path:
    if not path.exists():
        raise ArchiveError(f"{path}: no such file or folder", mend="name an archive or a model repository")
    archives.unpack(path, folder)
    config = folder / _CONFIG
    if not config.is_file():
        return folder
    # A single model, flat, as multi-model endpoints take it: the server wants it in a folder of its name.
    text = config.read_text(encoding="utf-8", errors="replace")
    name = triton_proto.folder_of(text, place=f"{path}:{_CONFIG}", otherwise=stem(path.name))
    flat = folder.rename(folder.with_name("flat"))
    folder.mkdir()
    flat.rename(folder / name)
    return folder
