"""Text files that the user names, with everything that can be wrong with a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import RecipeError

if TYPE_CHECKING:
    from pathlib import Path


def read_text(path: Path, *, limit_bytes: int) -> str:
    """The file's text, without a byte order mark.

    Raises:
        RecipeError: there is no such file, it cannot be read, is larger than ``limit_bytes``, or is not UTF-8.
    """
    try:
        if not path.is_file():  # a device would never end
            raise RecipeError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
        with path.open("rb") as stream:
            content = stream.read(limit_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise RecipeError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > limit_bytes:
        raise RecipeError(f"{path}: larger than {limit_bytes // 1024} KiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        byte = content[error.start]
        raise RecipeError(f"{path}:{line}:{column}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from error
