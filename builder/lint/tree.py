"""The files that are linted, in a folder or in an archive, by their path."""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from builder.errors import ArchiveError, disk_error

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE: Final = "file"
FOLDER: Final = "folder"
LINK: Final = "link"
OTHER: Final = "other"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or folder.

    Args:
        kind: what the path is when links are followed, as the server does: FILE, FOLDER or OTHER (a device, a pipe);
            LINK for a link that leads nowhere, or out of an archive.
        size: bytes of a file; 0 for anything else.
        target: where the path itself is a link, the text of the link.
    """

    kind: str
    size: int = 0
    target: str = ""


class Tree(ABC):
    """Files by their path: relative, with ``/``, no leading ``./``; the root itself is ``""`` and has no entry."""

    name: str
    """The name of the root folder, or of the archive without its endings."""

    @property
    @abstractmethod
    def entries(self) -> Mapping[str, Entry]:
        """Path → entry, of all files and folders, at any depth."""

    @abstractmethod
    def head(self, path: str, size: int) -> bytes:
        """The first ``size`` bytes of a file; fewer where it ends before."""

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """The file, seekable, to be closed by the caller."""

    def read_text(self, path: str, limit: int = 4 << 20) -> str:
        """The text of a file, as UTF-8; wrong bytes become U+FFFD.

        Raises:
            ArchiveError: it is longer than ``limit`` bytes.
        """
        content = self.head(path, limit + 1)
        if len(content) > limit:
            raise ArchiveError(f"{path}: has more than {limit} bytes, which is no text that a person wrote")
        return content.decode(errors="replace")

    def is_file(self, path: str) -> bool:
        """Whether there is a file, links followed."""
        entry = self.entries.get(path)
        return entry is not None and entry.kind == FILE

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder, links followed; the root is one."""
        entry = self.entries.get(path)
        return path == "" or (entry is not None and entry.kind == FOLDER)

    def children(self, folder: str) -> tuple[str, ...]:
        """The names in a folder, sorted; empty where it is none."""
        return self._children.get(folder, ())

    @cached_property
    def _children(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for path in self.entries:
            folder, _, name = path.rpartition("/")
            found.setdefault(folder, []).append(name)
        return {folder: tuple(sorted(names)) for folder, names in found.items()}


class FolderTree(Tree):
    """The files of a folder.

    Args:
        root: the folder.

    Raises:
        MachineError: it cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = root.resolve().name

    @cached_property
    def entries(self) -> Mapping[str, Entry]:
        found: dict[str, Entry] = {}
        try:
            self._scan(self.root, "", (self.root.resolve(),), found)
        except OSError as error:
            raise disk_error(self.root, error) from error
        return found

    def head(self, path: str, size: int) -> bytes:
        try:
            with self.open(path) as file:
                return file.read(size)
        except OSError as error:
            raise disk_error(self.root / path, error) from error

    def open(self, path: str) -> BinaryIO:
        return (self.root / path).open("rb")

    def _scan(self, folder: Path, prefix: str, above: tuple[Path, ...], found: dict[str, Entry]) -> None:
        with os.scandir(folder) as items:
            for item in sorted(items, key=lambda item: item.name):
                path = f"{prefix}{item.name}"
                found[path] = entry = _entry(item)
                if entry.kind == FOLDER:
                    # A link may lead to a folder that holds it: then its content is listed already.
                    real = Path(item.path).resolve() if entry.target else Path(item.path)
                    if real not in above:
                        self._scan(real, f"{path}/", (*above, real), found)


def _entry(item: os.DirEntry[str]) -> Entry:
    target = os.readlink(item.path) if item.is_symlink() else ""  # noqa: PTH115 - DirEntry.path is text
    try:
        status = item.stat()
    except OSError:
        return Entry(LINK, target=target)
    if stat.S_ISDIR(status.st_mode):
        return Entry(FOLDER, target=target)
    if stat.S_ISREG(status.st_mode):
        return Entry(FILE, status.st_size, target)
    return Entry(OTHER, target=target)
