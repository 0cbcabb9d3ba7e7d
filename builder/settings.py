"""The only reader of the process environment.

* ``TRITONSMITH_CACHE``: folder for builds in progress, the toolchain and downloaded models; by default
  ``$XDG_CACHE_HOME/tritonsmith`` or ``~/.cache/tritonsmith``. Where there is no home folder either, it is a path that
  nobody can make: whoever needs the cache says so, and names this variable. (No folder below ``/tmp`` stands in:
  another user could have put his programs there.)
* ``HF_ENDPOINT``: address of the model hub or of its mirror; by default ``https://huggingface.co``.
* ``HF_TOKEN``, or the file that ``HF_TOKEN_PATH`` names, by default ``$HF_HOME/token``: for gated and private models.
* AWS's own variables are read by boto3, and by nothing of ours.
* ``CI``: plain progress lines, never a redrawn terminal.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says, read once per call of :func:`settings`."""

    cache: Path
    hub_endpoint: str
    hub_token: str | None
    ci: bool


def without_plugins() -> None:
    """Makes pydantic look for no plugins: it would ask every installed distribution for some, for 30 ms."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def environment() -> dict[str, str]:
    """A copy of the process environment, for child processes."""
    return dict(os.environ)


def settings() -> Settings:
    """Reads the environment now: a test may change it between two calls."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache")
    return Settings(
        cache=Path(os.environ.get("TRITONSMITH_CACHE") or home / "tritonsmith").absolute(),
        hub_endpoint=os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co",
        hub_token=os.environ.get("HF_TOKEN") or _token_from_file(home),
        ci=os.environ.get("CI", "").lower() not in {"", "0", "false"},
    )


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # HOME is not set, and the user has no entry in passwd: containers
        return Path(os.devnull) / "no-home-folder"


def _token_from_file(cache_home: Path) -> str | None:
    hub_home = Path(os.environ.get("HF_HOME") or cache_home / "huggingface")
    path = Path(os.environ.get("HF_TOKEN_PATH") or hub_home / "token")
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
