"""The user's own steps: their files, and the packages or the environment that these import from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.core.digest import digest_file
from builder.errors import UserError
from builder.package.user_code import check_user_file
from builder.recipe.steps import PythonStep
from builder.tools import archive_environment, wheels
from builder.tools.copying import LARGE_BYTES, copy_hashing

if TYPE_CHECKING:
    from pathlib import Path

    from builder.artifacts import File, Json
    from builder.recipe.composed import Composed

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UserStep:
    """A file of the user's, and the packages that it imports."""

    file: Path
    sha256: str
    requirements: tuple[str, ...]
    environment: Path | None = None  # a packed one
    environment_sha256: str = ""

    def key(self) -> list[Json]:
        """All that can change what it does."""
        environment = [f"environment {self.environment_sha256}"] if self.environment else []
        return [self.file.name, self.sha256, *self.requirements, *environment]


def user_steps(recipe: Composed) -> dict[str, UserStep]:
    """The user's own steps, by name.

    Raises:
        UserError: a file cannot be used.
    """
    found = {}
    for name, step in recipe.pipeline.steps.items():
        if isinstance(step, PythonStep):
            check_user_file(step.python, step)
            packed = step.environment.packed if step.environment else None
            environment = (packed, digest_environment(packed)) if packed else ()
            found[name] = UserStep(step.python, digest_file(step.python), step.requirements, *environment)
    return found


def write_user_step(step: UserStep, folder: Path, python: tuple[int, int], cache: Path) -> tuple[File, ...]:
    """Puts a file of the user's into a folder, and the packages that it imports into ``vendor/`` beside it.

    Args:
        step: the file.
        folder: where it goes.
        python: minor version of the Python that will run it.
        cache: the user's cache folder.

    Returns:
        The wheels.

    Raises:
        UserError: the file was changed; or a package needs another one that is not asked for.
        MachineError: there is no such wheel, or it cannot be fetched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _copy(step.file, folder / step.file.name, step.sha256)
    found = wheels.fetch_all(step.requirements, python, cache) if step.requirements else ()
    for wheel in found:
        wheels.unpack(wheel, folder / "vendor")
    return found


def digest_environment(packed: Path) -> str:
    """The digest of a packed environment.

    Raises:
        UserError: there is no such file.
    """
    try:
        if packed.stat().st_size >= LARGE_BYTES:
            log.info("reading %s", packed)
        return digest_file(packed)
    except OSError as error:
        raise UserError(f"{packed}: {error.strerror}", mend="name a .tar.gz that conda-pack made") from error


def write_environment(packed: Path, sha256: str, folder: Path) -> tuple[int, int]:
    """Puts a packed environment into a folder, and says which Python it holds.

    Raises:
        UserError: it was changed; or it is none that a step could run in.
    """
    python = archive_environment.python_of(packed)
    _copy(packed, folder / archive_environment.FILE_NAME, sha256)
    return python


def _copy(source: Path, target: Path, sha256: str) -> None:
    with source.open("rb") as read, target.open("xb") as written:
        found, _ = copy_hashing(read.fileno(), written.fileno())
    if found != sha256:
        raise UserError(f"{source}: was changed while it was built", mend="build again")
