"""Versions of installed distributions, read without importing them."""

from __future__ import annotations

from builder.core.versions import version


def versions(*distributions: str) -> dict[str, str]:
    """Distribution name → version.

    Raises:
        MachineError: one is not installed.
    """
    return {name: version(name) for name in distributions}
