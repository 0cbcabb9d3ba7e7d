"""Versions of installed distributions, read without importing them."""

from __future__ import annotations

from importlib import metadata

from builder.errors import MachineError


def versions(*distributions: str) -> dict[str, str]:
    """Distribution name → version.

    Raises:
        MachineError: one is not installed.
    """
    try:
        return {name: metadata.version(name) for name in distributions}
    except metadata.PackageNotFoundError as error:
        raise MachineError(
            f"{error.name} is not installed: building a model needs it",
            mend="pip install 'tritonsmith[export]' (verifying an archive works without)",
        ) from error
