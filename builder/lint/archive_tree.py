"""The files of an archive as a tree to lint: read in one pass, nothing is written."""

from __future__ import annotations

import io
import logging
import posixpath
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO, Final

from builder.lint.tree import FILE, FOLDER, LINK, OTHER, Entry, Tree
from builder.tools import archive_look
from builder.tools.archive_names import LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from builder.errors import ModelError
    from builder.tools.archive_look import Look, Member
    from builder.tools.onnx_facts import OnnxHeader

log = logging.getLogger(__name__)

ENDINGS: Final = (".tar.gz", ".tgz", ".tar")

_TEXT_BYTES: Final = (4 << 20) + 1
_WARMUP_BYTES: Final = 64 << 20
_PACKED_BYTES: Final = 1 << 20  # a packed environment: its begin names its Python
_SMALL_BYTES: Final = 256 << 10  # a file of a version folder that may be Python, whatever its name
_HEAD_BYTES: Final = 64
_DEPTH_LIMIT: Final = 3  # model, version, file: what lies deeper is not looked into
_SAID_BYTES: Final = 200 << 20  # a larger archive takes some seconds
_KEPT: Final = {
    ".pbtxt": _TEXT_BYTES,
    ".py": _TEXT_BYTES,
    ".gz": _PACKED_BYTES,  # a packed environment: its begin names its Python
    ".tgz": _PACKED_BYTES,
}


class ArchiveTree(Tree):
    """The files of an archive.

    Args:
        archive: a ``.tar.gz`` or ``.tar``.

    Raises:
        ArchiveError: it is damaged, or no such archive.
    """

    def __init__(self, archive: Path) -> None:
        self.name = archive.name
        if archive.is_file() and archive.stat().st_size > _SAID_BYTES:
            log.info("reading %s", archive.name)
        for ending in ENDINGS:
            self.name = self.name.removesuffix(ending)
        self.look: Look = archive_look.look(archive, _keep)

    @cached_property
    def bad(self) -> tuple[tuple[str, str], ...]:
        """Name of a member and what is wrong with it, of those that nobody should unpack."""
        seen: set[str] = set()
        found = []
        for member in self.look.members:
            name = _plain(member.name)
            if what := _wrong(member, name, twice=name in seen) or self._misplaced(name):
                found.append((member.name, what))
            seen.add(name)
        return tuple(found)

    def _misplaced(self, name: str) -> str:
        above = next((folder for folder in _above(name) if folder in self._files), "")
        return f"lies in {above!r}, which is a file" if above else ""

    @cached_property
    def _files(self) -> frozenset[str]:
        return frozenset(_plain(member.name) for member in self.look.members if member.kind == archive_look.FILE)

    @cached_property
    def _members(self) -> Mapping[str, Member]:
        """Path → member, of those that have a place in the archive's folder; the last of a name counts, as in tar."""
        return {name: member for member in self.look.members if (name := _plain(member.name)) and _inside(name)}

    @cached_property
    def entries(self) -> Mapping[str, Entry]:
        found: dict[str, Entry] = {}
        for path, member in self._members.items():
            for folder in _above(path):
                found.setdefault(folder, Entry(FOLDER))
            found[path] = self._entry(path, member)
        return found

    def head(self, path: str, size: int) -> bytes:
        member = self._target(path)
        return member.head[:size] if member else b""

    def open(self, path: str) -> BinaryIO:
        return io.BytesIO(self.head(path, _TEXT_BYTES))

    def onnx(self, path: str) -> OnnxHeader | ModelError | None:
        """The header of an ONNX file, or why it cannot be read; None where the file is not named ``.onnx``."""
        member = self._target(path)
        return member.onnx if member else None

    def _entry(self, path: str, member: Member) -> Entry:
        if member.kind == archive_look.FOLDER:
            return Entry(FOLDER)
        if member.kind == archive_look.FILE:
            return Entry(FILE, max(member.size, 0))
        if member.kind == archive_look.DEVICE:
            return Entry(OTHER)
        target = self._target(path)
        if target is None or target.kind not in {archive_look.FILE, archive_look.FOLDER}:
            return Entry(LINK, target=member.target)
        kind = FILE if target.kind == archive_look.FILE else FOLDER
        return Entry(kind, max(target.size, 0), member.target)

    def _target(self, path: str) -> Member | None:
        """The member at a path, one link followed."""
        member = self._members.get(path)
        if member and member.kind in {archive_look.SYMLINK, archive_look.HARD_LINK}:
            return self._members.get(_link_target(member, path))
        return member


def _keep(name: str, size: int) -> int:
    """How many bytes of a member the rules may ask for."""
    parts = _plain(name).split("/")
    ending = posixpath.splitext(name)[1]
    if ending == ".pbtxt":
        return _TEXT_BYTES
    if "warmup" in parts[:-1]:
        return _WARMUP_BYTES
    if len(parts) > _DEPTH_LIMIT:
        return _HEAD_BYTES
    if ending in {".gz", ".tgz"}:
        return _PACKED_BYTES
    in_version = len(parts) > 1 and parts[-2].isdecimal() and size <= _SMALL_BYTES
    return _TEXT_BYTES if ending == ".py" or in_version else _HEAD_BYTES


def _plain(name: str) -> str:
    """The name without the ``./`` that ``tar -C folder .`` puts before each."""
    name = name.rstrip("/")
    return "" if name == "." else name.removeprefix("./")


def _inside(path: str) -> bool:
    return not path.startswith("/") and not {"..", ".", ""} & set(path.split("/"))


def _above(path: str) -> Iterator[str]:
    parts = path.split("/")[:-1]
    return ("/".join(parts[: count + 1]) for count in range(len(parts)))


def _link_target(member: Member, path: str) -> str:
    if member.kind == archive_look.HARD_LINK:
        return _plain(member.target)
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), member.target))


def _wrong(member: Member, name: str, *, twice: bool) -> str:
    if member.kind == archive_look.DEVICE:
        return "is a device, a pipe or a sparse file"
    if name.startswith("/"):
        return "has an absolute path"
    if ".." in name.split("/"):
        return "leaves the archive's folder"
    if name and not _inside(name):
        return "is not a plain path"
    if twice and name:
        return "is there twice"
    if member.kind in {archive_look.SYMLINK, archive_look.HARD_LINK}:
        target = _link_target(member, name)
        if member.target.startswith("/") or not _inside(target):
            return f"is a link to {member.target!r}, out of the archive"
    if member.mode & 0o6000:
        return "has a set-user-id or set-group-id bit"
    if archive_look.swells(member.head):
        return f"is an archive of {member.size} bytes that unpacks to more than {LIMITS.ratio} times as much"
    return ""
