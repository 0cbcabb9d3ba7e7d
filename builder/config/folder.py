"""Writing a model's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.tools import triton_proto

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.artifacts import Json


def write_config(config: Mapping[str, Json], path: Path, release: str) -> None:
    """Writes a ``config.pbtxt``.

    Raises:
        UserError: a field is unknown to the Triton release, or has a value that it cannot have.
    """
    message = triton_proto.build(config, release=release, place="serving")
    write(path, triton_proto.to_text(message).encode())


def write(path: Path, content: bytes) -> None:
    """Writes a file, and the folders that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
