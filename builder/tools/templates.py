"""Where the files of ``model_repo_template/`` are: beside the package in a checkout, inside it in the wheel."""

from __future__ import annotations

from pathlib import Path

from builder.errors import InternalError

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


def step_files(kind: str) -> tuple[Path, ...]:
    """What is copied into the version folder of a step of that kind, each under its own name; ``model.py`` is first.

    Raises:
        InternalError: there is no such step.
    """
    files = (path(f"steps/{kind}/model.py"),)
    return files if kind in _ALONE else (*files, path("steps/common/tritonsmith_step.py"))
