"""A Python environment in a ``.tar.gz``, as conda-pack makes them: what is in it, and unpacking it.

Its links and programs make it unlike the archives of :mod:`builder.tools.archive_read`: it is the user's own, and
nobody unpacks it but to run it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from builder.errors import UserError
from builder.tools.archive_read import opened
from builder.tools.process import run

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME: Final = "environment.tar.gz"
"""Of the archive, wherever it is copied to."""

_ACTIVATE: Final = "bin/activate"
_PYTHON: Final = re.compile(r"lib/python(?P<major>\d+)\.(?P<minor>\d+)/")
_NUMPY: Final = "/site-packages/numpy/__init__.py"
_UNPACK_SECONDS: Final = 1800.0
_MEND: Final = "make it with conda-pack, of an environment with numpy in it"


def python_of(archive: Path) -> tuple[int, int]:
    """The minor version of the Python of an environment.

    Raises:
        UserError: the archive is damaged, or Triton's Python backend could not run a step in it.
    """
    with opened(archive) as tar:
        names = [member.name.removeprefix("./") for member in tar]
    if _ACTIVATE not in names:
        raise UserError(f"{archive}: holds no {_ACTIVATE}, which Triton calls", mend=_MEND)
    pythons = {(int(match["major"]), int(match["minor"])) for match in map(_PYTHON.match, names) if match}
    if len(pythons) != 1:
        raise UserError(f"{archive}: holds {len(pythons)} folders lib/python3.N; it must hold one", mend=_MEND)
    if not any(name.endswith(_NUMPY) for name in names):
        raise UserError(f"{archive}: holds no numpy, which Triton's Python backend needs", mend=_MEND)
    return pythons.pop()


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks an environment.

    Raises:
        MachineError: it is damaged, or the disk is full.
    """
    folder.mkdir(parents=True)
    command: list[str | Path] = ["tar", "--extract", "--gzip", "--no-same-owner", "--file", archive]
    run([*command, "--directory", folder], what=f"unpacking {archive.name}", timeout_seconds=_UNPACK_SECONDS)
