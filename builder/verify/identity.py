"""What answers, as far as it is known before anything is installed: part of the key of a measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.core.digest import digest_file
from builder.errors import MachineError
from builder.tools import python_env, templates, toolchain
from builder.tools.releases import release

if TYPE_CHECKING:
    from builder.artifacts import Json


def describe_serving(triton: str, minor: tuple[int, int] | None = None) -> dict[str, Json]:
    """The server, our backends in it, and the Python environment of its stubs; nothing is made or installed.

    Args:
        triton: release of the target: 25.09.
        minor: the Python that the stubs must have; None: any.

    Raises:
        UserError: no such release is known.
    """
    return {
        "toolchain": toolchain.digest(),
        # The files that toolchain.backends copies into the served folder.
        "backends": {
            f"{folder.name}/{file.name}": digest_file(file)
            for folder in templates.backends()
            for file in templates.backend_files(folder)
        },
        "python": _python(minor),
        "numpy": python_env.NUMPY_VERSION,
        "onnxruntime": release(triton).onnxruntime,
    }


def _python(minor: tuple[int, int] | None) -> str | None:
    try:
        return ".".join(map(str, python_env.find_interpreter(minor).minor))
    except MachineError:
        return None  # what was measured before is still true; measuring anew says what is missing
