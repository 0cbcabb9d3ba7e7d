"""Versions of installed distributions: declared in fingerprints, and asserted by whoever runs a stage."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from builder.errors import MachineError
from builder.tools import installed

if TYPE_CHECKING:
    from builder.artifacts import Json

FIELD = "versions"
"""Where a fingerprint declares them: distribution → version."""


@lru_cache(maxsize=256)
def version(distribution: str) -> str:
    """The version of a distribution that is installed here; looked up once.

    Raises:
        MachineError: it is not installed.
    """
    found = installed.version(distribution)
    if found is None:
        raise MachineError(
            f"{distribution} is not installed: building a model needs it",
            mend="pip install 'tritonsmith[export]' (verifying an archive works without)",
        )
    return found


def check_versions(fingerprint: dict[str, Json]) -> None:
    """Asserts that the versions that a fingerprint declares are the installed ones, now.

    Raises:
        MachineError: one is another, or gone.
    """
    for name, declared in fingerprint.get(FIELD, {}).items():
        found = installed.version(name)
        if found != declared:
            raise MachineError(
                f"{name} {found or 'is not installed'}: this was planned with {name} {declared}",
                mend=f"install {name}=={declared}, or plan and build again with what is installed",
            )
