"""What is installed for this Python, by looking at the folders of ``sys.path``.

:mod:`importlib.metadata` says the same and reads each file whole, with a parser of e-mails: what is not found here is
asked of it.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

_SEPARATORS = re.compile(r"[-_.]+")
_NAMED = re.compile(r"(?P<name>.+?)-[^-]+\.dist-info")


def version(distribution: str) -> str | None:
    """The version that a distribution's own metadata states; None where it is not installed.

    Nothing is remembered: what is installed may change while a process runs.
    """
    folder = folder_of(distribution)
    if folder is not None and (found := _field(folder, "Version")):
        return found
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def folder_of(distribution: str) -> Path | None:
    """The ``.dist-info`` folder of a distribution, the first on ``sys.path``."""
    wanted = _normal(distribution)
    for entry in sys.path:
        if name := _folders(entry or ".").get(wanted):
            return Path(entry or ".", name)
    return None


def names() -> set[str]:
    """Names of all distributions that have a ``.dist-info`` folder, in lower case, with ``-``."""
    return {name for entry in sys.path for name in _folders(entry or ".")}


_listed: dict[str, tuple[int, dict[str, str]]] = {}


def _folders(entry: str) -> dict[str, str]:
    """The ``.dist-info`` folders in a folder, by distribution; listed again when the folder has changed."""
    try:
        changed = os.stat(entry).st_mtime_ns  # noqa: PTH116 - asked hundreds of times in a build
        if entry not in _listed or _listed[entry][0] != changed:
            with os.scandir(entry) as found:
                matches = filter(None, (_NAMED.fullmatch(one.name) for one in found))
                _listed[entry] = changed, {_normal(match["name"]): match.string for match in matches}
        return _listed[entry][1]
    except OSError:
        return {}


def _field(folder: Path, name: str) -> str | None:
    """A field of a distribution's metadata: its head is like that of an e-mail, one field a line."""
    try:
        with (folder / "METADATA").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith(f"{name}:"):
                    return line.partition(":")[2].strip()
                if not line.strip():
                    break
    except OSError:
        pass
    return None


def _normal(name: str) -> str:
    return _SEPARATORS.sub("-", name).lower()
