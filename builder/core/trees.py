"""A folder held against the tree that it is to be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from builder.core.digest import digest_file

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from builder.artifacts import File

_SHOWN = 16  # digits of a digest in a message


def differences(folder: Path, files: Mapping[str, File], digest: Callable[[Path], str] = digest_file) -> list[str]:
    """In what a folder is not the tree that is wanted; nothing where it is.

    Args:
        folder: what lies there.
        files: what is to be there, by path below the folder; where these files lie says nothing.
        digest: sha256 of a file. Large trees cost what this costs.

    Returns:
        One text for each path: ``a/b: has sha256 …``.

    Raises:
        OSError: the folder cannot be read.
    """
    if folder.is_symlink() or not folder.is_dir():
        return [f"{folder.name}: is no folder"]
    strange = dict(strangers(folder, files))
    changed = {
        name: problem
        for name, file in files.items()
        if name not in strange and (problem := _problem(folder, name, file, digest))
    }
    return [f"{name}: {problem}" for name, problem in sorted({**strange, **changed}.items())]


def strangers(folder: Path, names: Collection[str]) -> Iterator[tuple[str, str]]:
    """What does not belong into a folder of these regular files: (path below it, what it is).

    Raises:
        OSError: the folder cannot be read.
    """
    for above, folders, files in os.walk(folder, onerror=_raise):
        for path in sorted(Path(above, name) for name in (*folders, *files)):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink():
                yield name, "is a symbolic link"
            elif path.is_dir():
                if not any(path.iterdir()):
                    yield name, "is an empty folder"
            elif not path.is_file():
                yield name, "is no regular file"
            elif name not in names:
                yield name, "does not belong there"


def _problem(folder: Path, name: str, file: File, digest: Callable[[Path], str]) -> str:
    path = folder / name
    if ".." in path.parts[len(folder.parts) :] or not path.is_relative_to(folder):
        return "leaves the folder"  # a manifest may be anybody's
    if not path.is_file():
        return "is missing"
    if (size := path.stat().st_size) != file.size:
        return f"has {size} bytes, not {file.size}"
    if (found := digest(path)) != file.sha256:
        return f"has sha256 {found[:_SHOWN]}…, not {file.sha256[:_SHOWN]}…"
    return ""


def _raise(error: OSError) -> None:
    raise error
