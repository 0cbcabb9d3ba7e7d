"""Why pip found no file that fits: no such package, no such version, or no wheel for the machine.

In all of these cases, and where no index answers, pip says "No matching distribution found"; only with ``-vv`` it tells
which pages it could not fetch, and which files it passed over.
"""

from __future__ import annotations

import difflib
import re
import sys
from typing import TYPE_CHECKING, Final

from builder.errors import MissingError
from builder.tools import installed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.tools.process import Completed

_SOUGHT: Final = re.compile(r"satisfies the requirement ([^\s(]+).*\(from versions: ([^)]*)\)")
_UNFETCHED: Final = re.compile(r"Could not fetch URL \S+: (?!404 )")
_OTHER_TAGS: Final = re.compile(
    r"none of the wheel's tags|No binaries permitted|[Rr]equires[- ]Python|different python"
)
_SHOWN: Final = 5  # versions


def is_missing(errors: str) -> bool:
    """Whether pip found nothing that fits, for whatever reason."""
    return "No matching distribution" in errors


def explain(what: str, asked: Completed, arguments: Sequence[str]) -> MissingError | None:
    """The reason; None where an index did not answer, or pip does not say it.

    Args:
        what: what was to be done, for the message.
        asked: what ``pip -vv`` said.
        arguments: its arguments.
    """
    told = asked.stdout + asked.stderr
    sought = _SOUGHT.search(told)
    if sought is None or _UNFETCHED.search(told):
        return None
    name, where = re.split("[<>=!~]", sought[1])[0], _machine(arguments)
    versions = [one for one in sought[2].split(", ") if one != "none"]
    if versions:
        newest, near = ", ".join(versions[-_SHOWN:]), _nearest(sought[1].partition("==")[2], versions)
        return MissingError(
            f"{what}: there is no wheel of {sought[1]} for {where}; the newest of it are {newest}",
            mend=f"write {name}=={near}, or another that there is; or correct the name",
        )
    if _OTHER_TAGS.search(told):
        return MissingError(
            f"{what}: there is {name}, but no wheel of {sought[1]} for {where}",
            mend="take another version or package, or build that wheel and name its folder: "
            "pip config set global.find-links FOLDER",
        )
    close = difflib.get_close_matches(name.lower(), installed.names(), n=1, cutoff=0.8)
    asked_of = "name an index or a folder that has it: pip config list says which are asked"
    return MissingError(
        f"{what}: no index has a package named {name} (looked for {where})",
        mend=f"correct the name: did you mean {close[0]}?" if close else f"correct the name, or {asked_of}",
    )


def _nearest(version: str, versions: Sequence[str]) -> str:
    """The version that is spelled most like the one that was asked for; else the newest."""
    return (*difflib.get_close_matches(version, versions[::-1], n=1), versions[-1])[0]


def _machine(arguments: Sequence[str]) -> str:
    """The Python and the machine that the files are to fit."""
    given = dict(argument.partition("=")[::2] for argument in arguments if argument.startswith("--"))
    python = given.get("--python-version") or ".".join(map(str, sys.version_info[:2]))
    return f"Python {python} on {'Linux x86-64' if '--platform' in given else 'this machine'}"
