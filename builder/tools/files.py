"""Folders made of files that lie elsewhere."""

from __future__ import annotations

import errno
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.artifacts import Tree


def materialise(tree: Tree, folder: Path) -> Path:
    """Puts the files of ``tree`` below ``folder``: hard links where the file system allows them, copies elsewhere.

    Returns:
        ``folder``, which is made if it does not exist.

    Raises:
        OSError: a file is missing, or ``folder`` cannot be written.
    """
    for name in sorted(tree):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _link_or_copy(tree[name].path, target)
    return folder


def link(paths: Mapping[str, Path], folder: Path) -> Path:
    """Puts symbolic links to ``paths`` below ``folder``: for readers that follow links, at no cost at all.

    Returns:
        ``folder``, which is made if it does not exist.

    Raises:
        OSError: ``folder`` cannot be written.
    """
    for name in sorted(paths):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(paths[name].absolute())
    return folder


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError as error:
        # Another file system, one without hard links, too many links, another user's file (fs.protected_hardlinks).
        if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES}:
            raise
        shutil.copyfile(source, target)
