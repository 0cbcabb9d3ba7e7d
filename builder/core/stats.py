"""Which content a file had when it was last read: so that a build of what has not changed hashes nothing.

A file is taken for unchanged while its size, times of modification and change, and inode are the same. The time of
change cannot be set by a user's program: writing into a file in place always moves it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from builder.core.digest import digest_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from builder.artifacts import File

TICK_SECONDS: Final = 0.02
"""Longer than the step of a file system's clock (at most 10 ms: a jiffy): two writes in one step have the same time."""

Facts: TypeAlias = list[int]


@dataclass(frozen=True, slots=True)
class Stats:
    """Digests by path and stat, one small file for each folder that was looked at.

    Args:
        folder: where they are kept. It may be removed at any time: then files are hashed again.
    """

    folder: Path
    _known: dict[Path, dict[str, tuple[Facts, str]]] = field(default_factory=dict, compare=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    def digest(self, path: Path, read: Callable[[Path], str]) -> str:
        """sha256 of a file: the known one, or what ``read`` finds.

        Args:
            path: the file, absolute.
            read: hashes it.

        Raises:
            OSError: the file cannot be read.
        """
        before = facts(path)
        if (known := self._entries(path.parent).get(path.name)) and known[0] == before:
            return known[1]
        digest = read(path)
        self.keep(path, before, digest)
        return digest

    def known(self, path: Path) -> str | None:
        """The sha256 of a file, if it need not be read for it."""
        try:
            entry = self._entries(path.parent).get(path.name)
            return entry[1] if entry and entry[0] == facts(path) else None
        except OSError:
            return None

    def note(self, files: Iterable[File]) -> None:
        """Keeps the digests of files that we wrote ourselves, once the clock has moved on; known ones cost nothing."""
        found = {file.path: (facts(file.path), file.sha256) for file in files if self.known(file.path) != file.sha256}
        if found:
            youngest = min(_age(before) for before, _ in found.values())
            time.sleep(max(0.0, TICK_SECONDS - youngest + 0.001))
            self._keep(found)

    def keep(self, path: Path, before: Facts, digest: str) -> None:
        """Keeps the digest of a file that was as ``before`` says when its reading began.

        Nothing is kept of a file that has changed meanwhile, or a moment ago: it may be written again without a change
        of its times.
        """
        self._keep({path: (before, digest)})

    def _keep(self, found: Mapping[Path, tuple[Facts, str]]) -> None:
        settled = {
            path: entry for path, entry in found.items() if _age(entry[0]) >= TICK_SECONDS and facts(path) == entry[0]
        }
        with self._lock:
            for folder in {path.parent for path in settled}:
                entries = self._read(folder)
                entries |= {path.name: entry for path, entry in settled.items() if path.parent == folder}
                self._known[folder] = entries
                with contextlib.suppress(OSError):
                    self._write(folder, entries)

    def _entries(self, folder: Path) -> dict[str, tuple[Facts, str]]:
        with self._lock:
            if folder not in self._known:
                self._known[folder] = self._read(folder)
            return self._known[folder]

    def _path(self, folder: Path) -> Path:
        return self.folder / f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:32]}.json"

    def _read(self, folder: Path) -> dict[str, tuple[Facts, str]]:
        try:
            data = json.loads(self._path(folder).read_bytes())
            if digest_json(data["files"]) != data["digest"]:
                return {}
            return {name: (list(map(int, entry[0])), str(entry[1])) for name, entry in data["files"].items()}
        except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError):
            return {}

    def _write(self, folder: Path, entries: dict[str, tuple[Facts, str]]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self.folder, suffix=".tmp")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                data = {"folder": os.fsdecode(folder), "files": entries, "digest": digest_json(entries)}
                stream.write(json.dumps(data))  # in one piece: json.dump is many times slower
            Path(name).rename(self._path(folder))
        finally:
            Path(name).unlink(missing_ok=True)


def facts(path: Path) -> Facts:
    """What tells one content of a file from another: size, times in nanoseconds, inode and device."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev]


def _age(found: Facts) -> float:
    return (time.time_ns() - max(found[1], found[2])) / 1e9
