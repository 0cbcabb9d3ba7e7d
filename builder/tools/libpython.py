"""What a Python is, and where its shared library lies. A script of its own: it imports nothing of tritonsmith.

The running Python is asked in this process, another one with ``python -I libpython.py``, which prints a JSON object.
"""

from __future__ import annotations

import os
import sys

NAME = f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"


def in_folders() -> str | None:
    """The shared library in the folders of this Python."""
    import sysconfig

    home, multiarch = sys.base_prefix + "/lib", sysconfig.get_config_var("MULTIARCH") or ""
    folders = [sysconfig.get_config_var("LIBDIR"), home, sysconfig.get_config_var("LIBPL")]
    folders = [folder for folder in folders if folder]
    folders += [os.path.join(folder, multiarch) for folder in folders]  # noqa: PTH118 - pathlib is slow to start
    paths = (os.path.join(folder, NAME) for folder in folders)  # noqa: PTH118
    return next((path for path in paths if os.path.isfile(path)), None)  # noqa: PTH113


def of_loader() -> str | None:
    """The one that the dynamic loader finds, whose path the kernel knows. It is loaded: not for a process of ours."""
    import ctypes

    try:
        ctypes.CDLL(NAME)
        with open("/proc/self/maps", encoding="utf-8") as maps:  # noqa: PTH123
            found = [line.split(None, 5)[-1].strip() for line in maps if line.rstrip().endswith("/" + NAME)]
    except OSError:
        return None
    return found[0] if found else None


def main() -> None:
    """Prints what the interpreter in question is."""
    import json

    found = in_folders() or of_loader()
    facts = {
        "version": sys.version,
        "minor": list(sys.version_info[:2]),
        "prefix": sys.base_prefix,
        "libpython": os.path.realpath(found) if found else None,
    }
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
