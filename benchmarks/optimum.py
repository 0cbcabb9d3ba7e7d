"""The peer `optimum-cli`, in an environment of its own below tritonsmith's cache folder."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

from benchmarks.progress import say
from builder.settings import settings
from builder.tools import process

_REQUIREMENTS = Path(__file__).with_name("optimum-requirements.txt")
_PIP_SECONDS = 1800.0


def environment_folder() -> Path:
    """The peer's virtual environment; made on first use, and again when the pinned versions change (1.2 GB).

    Raises:
        MachineError: pip failed; its last lines are shown.
    """
    folder = settings().cache / "benchmarks" / "optimum"
    stamp = folder / "tritonsmith-setup"
    want = hashlib.sha256(_REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text(encoding="ascii") == want:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    say("making the environment of optimum-cli (once)")
    process.run([sys.executable, "-m", "venv", folder], what="venv of optimum", timeout_seconds=300.0)
    say("installing torch there, CPU build (about 200 MB)")
    _pip(folder, f"torch=={versions()['torch']}")
    say("installing optimum-onnx there")
    _pip(folder, "--requirement", str(_REQUIREMENTS))
    stamp.write_text(want, encoding="ascii")
    return folder


def versions() -> dict[str, str]:
    """Distribution → pinned version."""
    lines = _REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    pins = (line.partition("==")[::2] for line in lines if "==" in line and not line.startswith("#"))
    return dict(pins)


def _pip(folder: Path, *arguments: str) -> None:
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    process.run([*pip, *arguments], what="pip install (optimum)", timeout_seconds=_PIP_SECONDS)
