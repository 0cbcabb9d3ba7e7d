"""What answers, as far as it is known before anything is installed: part of the key of a measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.core.digest import digest_file
from builder.errors import MachineError
from builder.tools import python_env, templates, toolchain
from builder.tools.releases import release

if TYPE_CHECKING:
    from builder.artifacts import Json


def describe_serving(triton: str) -> dict[str, Json]:
    """The server, our backends in it, and the Python environment of its stubs; nothing is made or installed.

    Args:
        triton: release of the target: 25.09.

    Raises:
        UserError: no such release is known.
    """
    return {
        "toolchain": toolchain.digest(),
        # The files that toolchain.backends copies into the served folder.
        "backends": {
            f"{folder.name}/{file.name}": digest_file(file)
            for folder in templates.backends()
            for file in sorted(folder.glob("*.py"))
        },
        "python": _python(),
        "numpy": python_env.NUMPY_VERSION,
        "onnxruntime": release(triton).onnxruntime,
    }


def _python() -> str | None:
    try:
        return ".".join(map(str, python_env.find_interpreter().minor))
    except MachineError:
        return None  # what was measured before is still true; measuring anew says what is missing
