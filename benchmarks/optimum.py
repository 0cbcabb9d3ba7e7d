"""The peer `optimum-cli`, in an environment of its own below tritonsmith's cache folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import environments

if TYPE_CHECKING:
    from pathlib import Path

_NAME = "optimum"


def environment_folder() -> Path:
    """The peer's virtual environment (1.2 GB); torch comes first, the CPU build.

    Raises:
        MachineError: pip failed; its last lines are shown.
    """
    return environments.environment(_NAME, (f"torch=={versions()['torch']}",))


def versions() -> dict[str, str]:
    """Distribution → pinned version."""
    return environments.versions(_NAME)
