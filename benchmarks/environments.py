"""Environments of peers: each has one of its own below tritonsmith's cache folder, with pinned versions."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.progress import say
from builder.settings import settings
from builder.tools import process

if TYPE_CHECKING:
    from collections.abc import Sequence

_FOLDER = Path(__file__).parent
_PIP_SECONDS = 1800.0


def environment(name: str, first: Sequence[str] = ()) -> Path:
    """The virtual environment of ``<name>-requirements.txt``; made on first use, and again when the pins change.

    Args:
        name: of the peer.
        first: distributions to install before all others.

    Raises:
        MachineError: pip failed; its last lines are shown.
    """
    folder, requirements = settings().cache / "benchmarks" / name, _requirements(name)
    stamp = folder / "tritonsmith-setup"
    want = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text(encoding="ascii") == want:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    say(f"making the environment of {name} (once)")
    process.run([sys.executable, "-m", "venv", folder], what=f"venv of {name}", timeout_seconds=300.0)
    for asked in (list(first), ["--requirement", str(requirements)]):
        if asked:
            say(f"installing {asked[-1]} there")
            _pip(folder, name, *asked)
    stamp.write_text(want, encoding="ascii")
    return folder


def versions(name: str) -> dict[str, str]:
    """Distribution → pinned version."""
    lines = _requirements(name).read_text(encoding="utf-8").splitlines()
    pins = (line.partition("==")[::2] for line in lines if "==" in line and not line.startswith("#"))
    return dict(pins)


def _requirements(name: str) -> Path:
    return _FOLDER / f"{name}-requirements.txt"


def _pip(folder: Path, name: str, *arguments: str) -> None:
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    process.run([*pip, *arguments], what=f"pip install ({name})", timeout_seconds=_PIP_SECONDS)
