"""Where the files of ``model_repo_template/`` are: beside the package in a checkout, inside it in the wheel."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import InternalError

if TYPE_CHECKING:
    from types import ModuleType

_PACKAGE = Path(__file__).parent.parent
_ALONE = frozenset({"tokenize"})  # steps that need no other file of ours


def folder() -> Path:
    """The folder ``model_repo_template``, absolute.

    Raises:
        InternalError: the installation is broken.
    """
    for parent in (_PACKAGE, _PACKAGE.parent):
        if (parent / "model_repo_template").is_dir():
            return (parent / "model_repo_template").resolve()
    raise InternalError(f"the folder model_repo_template is neither in {_PACKAGE} nor beside it")


def path(relative: str) -> Path:
    """A file of the templates, by its POSIX path: ``steps/tokenize/model.py``.

    Raises:
        InternalError: there is no such file.
    """
    file = folder() / relative
    if not file.is_file():
        raise InternalError(f"no template {relative} in {folder()}")
    return file


def backends() -> tuple[Path, ...]:
    """The folders of the Python-based backends, one for each, sorted; its name is the backend's name."""
    return tuple(sorted(file.parent for file in (folder() / "backends").glob("*/model.py")))


def backend_files(backend: Path) -> tuple[Path, ...]:
    """What is copied into the served folder of a Python-based backend, each under its own name, sorted.

    Args:
        backend: one of :func:`backends`.
    """
    return tuple(sorted([*backend.glob("*.py"), *(backend.parent / "common").glob("*.py")], key=lambda file: file.name))


def load_step(kind: str) -> ModuleType:
    """The code of a step as a module: what the build asks is what will serve.

    Raises:
        InternalError: there is no such step.
    """
    model, *others = step_files(kind)
    for file in others:
        if file.stem not in sys.modules:
            sys.modules[file.stem] = _load(file.stem, file)
    return _load(f"tritonsmith_{kind}_step", model)


def _load(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise InternalError(f"{file} is no Python module")  # pragma: no cover
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def step_files(kind: str) -> tuple[Path, ...]:
    """What is copied into the version folder of a step of that kind, each under its own name; ``model.py`` is first.

    Raises:
        InternalError: there is no such step.
    """
    files = (path(f"steps/{kind}/model.py"),)
    return files if kind in _ALONE else (*files, path("steps/common/tritonsmith_step.py"))
