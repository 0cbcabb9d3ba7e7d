"""How each format lays out a repository.

A multi-model endpoint's front end (``src/sagemaker_server.cc:980-1083`` of triton-inference-server/server) decides by
the tree alone: with ``config.pbtxt`` at the root, the root is the model; else the top folder whose config holds
``platform: "ensemble"``, and of several such whichever it reads last. So a single model is laid flat, and of
nested ensembles only the outermost is spelled as that pattern wants: the others get ``platform: 'ensemble'``, which is
the same to Triton.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from builder.errors import InternalError, UserError
from builder.package.formats.servable import Servable
from builder.tools import sagemaker_environment
from builder.tools.sagemaker_environment import Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.artifacts import File, Repository

CONFIG: Final = "config.pbtxt"
_SEEN: Final = re.compile(r'platform:\s*"ensemble"')
_UNSEEN: Final = "platform: 'ensemble'"
_SEGMENT_BYTES: Final = 255  # S3DataSource's limit for one part of a key


def whole(repository: Repository) -> tuple[Servable, ...]:
    """The repository as it is."""
    return (Servable(repository.name, repository.files, _models(repository)),)


def single_model(repository: Repository) -> tuple[Servable, ...]:
    """The repository as it is: what ``serve`` has to know is in the environment."""
    variables = sagemaker_environment.plan(Wanted(repository.name, _load_models(repository)))
    return (Servable(repository.name, repository.files, _models(repository), variables),)


def prefix(repository: Repository) -> tuple[Servable, ...]:
    """The repository as it is, under names that S3 and its loader take.

    Raises:
        InternalError: a path is none that S3's loader takes.
    """
    _check_keys(repository.files)
    return single_model(repository)


def multi_model(repository: Repository) -> tuple[Servable, ...]:
    """One model flat; an ensemble beside its steps, and the only one that the front end takes for an ensemble.

    Raises:
        UserError: a step calls models by itself: nobody would load them.
    """
    others = [model for model in _load_models(repository) if model != repository.name]
    if others:
        raise UserError(
            f"{repository.name}: format sagemaker-mme: a step calls {', '.join(others)} by name, "
            "but a multi-model endpoint loads only the ensemble and what it is composed of",
            mend="leave the format out, or make the choice outside the pipeline: package.formats [sagemaker] serves it",
        )
    models = _models(repository)
    servable = _flat(repository) if len(models) == 1 else _nested(repository, models)
    return (servable,)


def seen_ensembles(files: Mapping[str, File], rewritten: Mapping[str, str]) -> tuple[str, ...]:
    """The top folders of a tree that the front end takes for ensembles."""
    configs = sorted(path for path in files if path.count("/") == 1 and path.endswith(f"/{CONFIG}"))
    return tuple(path.split("/")[0] for path in configs if _SEEN.search(rewritten.get(path) or _text(files[path])))


def _flat(repository: Repository) -> Servable:
    start = f"{repository.name}/"
    files = {path.removeprefix(start): file for path, file in repository.files.items()}
    if CONFIG not in files or any("/" in path and path.endswith(f"/{CONFIG}") for path in files):
        raise InternalError(f"repository {repository.name}: is no single model, but {sorted(files)[:6]}")
    return Servable(repository.name, files, (), sagemaker_environment.plan(Wanted()))


def _nested(repository: Repository, models: tuple[str, ...]) -> Servable:
    if CONFIG in repository.files:
        raise InternalError(f"repository {repository.name}: a config at the root would hide its models")
    inner = [name for name in seen_ensembles(repository.files, {}) if name != repository.name]
    paths = [f"{name}/{CONFIG}" for name in inner]
    rewritten = {path: _SEEN.sub(_UNSEEN, _text(repository.files[path])) for path in paths}
    if (seen := seen_ensembles(repository.files, rewritten)) != (repository.name,):
        found = ", ".join(seen) or "none"
        raise InternalError(f"repository {repository.name}: the front end would take for its ensemble: {found}")
    return Servable(repository.name, repository.files, models, sagemaker_environment.plan(Wanted()), rewritten)


def _models(repository: Repository) -> tuple[str, ...]:
    return tuple(sorted({path.split("/", 1)[0] for path in repository.files}))


def _load_models(repository: Repository) -> tuple[str, ...]:
    return tuple(map(str, repository.record.get("load_models", ())))


def _text(file: File) -> str:
    return file.path.read_text(encoding="utf-8")


def _check_keys(paths: Iterable[str]) -> None:
    files = set(paths)
    for path in sorted(files):
        parts = path.split("/")
        if {"", ".", ".."} & set(parts) or any(len(part.encode()) > _SEGMENT_BYTES for part in parts):
            raise InternalError(f"{path!r}: is no key that S3's loader takes")
        above = {"/".join(parts[:count]) for count in range(1, len(parts))}
        if clash := above & files:
            raise InternalError(f"{min(clash)!r}: is both a file and a folder")
