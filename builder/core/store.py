"""The store: what stages made, by the key of all that could change it.

Below one folder:

* ``blobs/<2>/<62>``: content by its sha256, read-only (:mod:`builder.core.blobs`);
* ``records/<2>/<key>.json``: a stage's output by its key: the artifact, whose files are sha256 and size, and the
  fingerprint that the key is the digest of;
* ``nodes/<node>.json``: the last fingerprint of each node, so that a plan can say what changed;
* ``stats/``: which content a file outside had when it was last read (:mod:`builder.core.stats`);
* ``locks/``: held while a key is made, so that others wait instead of making it too; and ``locks/gc``;
* ``leases/``: one held file for each running build: what a build has touched is not collected
  (:mod:`builder.core.collect`);
* ``builds/``: work in progress, on the same file system (:mod:`builder.core.workspace`).

Nothing here is trusted because it is there: a record carries its own digest, a hit is checked by stat, and content is
hashed before it is consumed or shipped. What is damaged is a warning and a miss.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.artifacts import File
from builder.core.blobs import Blobs
from builder.core.codec import CodecError, files_in, from_json, to_json
from builder.core.digest import canonical_json, digest_file, digest_json
from builder.core.stats import Stats, facts
from builder.core.workspace import appearing, put, remove, unwritable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.artifacts import Json

log = logging.getLogger(__name__)

NAME: Final = "store"
"""The store's folder in the user's cache."""

_LARGE_BYTES: Final = 500_000_000


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept of a stage that ran."""

    key: str
    stage: str
    version: int
    fingerprint: dict[str, Json]
    kind: str  # class of the artifact, in builder.artifacts
    output: Json
    seconds: float  # that it took

    def as_json(self) -> dict[str, Json]:
        """The content of its file, but for the digest."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Store:
    """A store in a folder, which several processes may use at once.

    Args:
        root: its folder; made when something is written.
        owned: folders of ours outside, whose files never change once they are whole: they are linked, not copied.
    """

    root: Path
    owned: tuple[Path, ...]
    blobs: Blobs
    stats: Stats

    @classmethod
    def at(cls, root: Path, *, owned: tuple[Path, ...] = ()) -> Store:
        """The store in a folder."""
        root = root.absolute()
        return cls(root, owned, Blobs(root / "blobs", root / "builds"), Stats(root / "stats"))

    def read(self, key: str) -> Record | None:
        """The record of a key; None where there is none. One that is damaged is removed, with a warning."""
        path = self.record_path(key)
        try:
            return _parse(key, path.read_bytes())
        except (IsADirectoryError, ValueError, TypeError, KeyError, AttributeError):
            log.warning("the store holds a damaged record, which is removed: %s", path)
            remove(path)
            return None
        except OSError:
            return None

    def load(self, record: Record) -> object | None:
        """The artifact of a record, with its files as blobs; None where one of them is missing or was meddled with."""
        from builder import artifacts

        kind = getattr(artifacts, record.kind, None)
        try:
            value: object = from_json(kind, record.output, self.blobs.path)  # type: ignore[arg-type]
        except CodecError as error:
            log.warning("a record of another version of %s is not used: %s", record.kind, error)
            return None
        for file in files_in(value):
            if not self.blobs.has(file.sha256, file.size):
                if file.path.exists():
                    self.blobs.discard(file.path)
                return None
        return value

    def find(self, key: str) -> object | None:
        """What a key led to, if all of it is there; used from now on."""
        with self.shared():
            record = self.read(key)
            value = None if record is None else self.load(record)
            if value is not None:
                with contextlib.suppress(OSError):
                    os.utime(self.record_path(key))
        return value

    def ingest(self, path: Path) -> File:
        """Somebody's file, whose content is a blob from now on: copied and hashed in one pass, then known by stat.

        Returns:
            the file where it lies: what is read of it now is read there, and messages name it.

        Raises:
            OSError: it cannot be read, or the disk is full.
        """
        before = facts(path)
        if (known := self.stats.known(path)) and self.blobs.has(known, before[0]):
            return File(path, known, before[0])
        if before[0] > _LARGE_BYTES:
            log.info("reading %s (%.0f MB)", path.name, before[0] / 1e6)
        with self.shared():
            file = self.blobs.copy(path)
        self.stats.keep(path, before, file.sha256)
        return File(path, file.sha256, file.size)

    def describe(self, path: Path) -> File:
        """Somebody's file where it lies, for a plan: hashed, unless it is known by stat.

        Raises:
            OSError: it cannot be read.
        """
        return File(path, self.stats.digest(path, digest_file), path.stat().st_size)

    def take(self, file: File, made: Path) -> File:
        """A file of a stage's output as a blob.

        Args:
            file: the file.
            made: the folder that the stage wrote into: what lies there is moved.

        Raises:
            DamagedError: somebody's file changed since it was hashed.
            OSError: the disk is full or cannot be written.
        """
        if self.blobs.holds(file.path):
            return file
        if file.path.is_relative_to(made):
            return self.blobs.move(file)
        if any(file.path.is_relative_to(folder) for folder in self.owned):
            return self.blobs.link(file)
        return self.blobs.find(file) or self.blobs.copy(file.path, expected=file.sha256)

    def write(self, record: Record) -> None:
        """Publishes a record, after the blobs that it refers to. Where there is one already, that one stays.

        One that leads to nothing is replaced: where a stage's bytes differ from run to run, nobody would ever make the
        blobs again that it lacks.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        path = self.record_path(record.key)
        data = record.as_json()
        # As it will be read back: tuples are lists there, and keys strings.
        data = json.loads(json.dumps(data))
        with self.shared():
            if (kept := self.read(record.key)) is None or self.load(kept) is None:
                write_atomically(path, canonical_json({**data, "digest": digest_json(data)}))

    def record_path(self, key: str) -> Path:
        """Where the record of a key lies."""
        return self.root / "records" / key[:2] / f"{key}.json"

    def remember(self, node: str, key: str, fingerprint: Json) -> None:
        """Keeps the fingerprint that a node had when it was last built."""
        path = self._node_path(node)
        if (kept := self.last(node)) is None or kept.get("key") != key:
            with contextlib.suppress(OSError):
                write_atomically(path, canonical_json({"node": node, "key": key, "fingerprint": fingerprint}))

    def last(self, node: str) -> dict[str, Json] | None:
        """``key`` and ``fingerprint`` that a node had when it was last built."""
        try:
            data = json.loads(self._node_path(node).read_bytes())
            is_whole = data["node"] == node and digest_json(data["fingerprint"]) == data["key"]
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return data if is_whole else None

    def forget(self, node: str) -> None:
        """Makes a node run again the next time: what it last made is not used any more."""
        if (kept := self.last(node)) is not None:
            self.record_path(str(kept.get("key"))).unlink(missing_ok=True)

    def damaged_notes(self) -> Iterator[Path]:
        """Files of last fingerprints and of what is known by stat that are not what was written."""
        for path in sorted(self.root.glob("nodes/*.json")):
            if self.last(path.stem.replace("%2F", "/").replace("%25", "%")) is None and path.exists():
                yield path
        yield from self.stats.damaged()

    def _node_path(self, node: str) -> Path:
        return self.root / "nodes" / f"{node.replace('%', '%25').replace('/', '%2F')}.json"

    @contextlib.contextmanager
    def making(self, key: str) -> Iterator[None]:
        """Held while a key is made: others that want it wait here, and find it then. It only saves work.

        Raises:
            OSError: the folder cannot be written.
        """
        from filelock import FileLock, Timeout

        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{key}.lock")
        try:
            lock.acquire(timeout=0.5)
        except Timeout:
            log.info("waiting for another build that makes the same")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def scratch(self, content: bytes) -> Iterator[Path]:
        """A file for the time of the block; what a killed process left of it is swept.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        builds = self.root / "builds"
        builds.mkdir(parents=True, exist_ok=True)
        with appearing(builds):
            descriptor, name = tempfile.mkstemp(dir=builds)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def shared(self) -> contextlib.AbstractContextManager[None]:
        """Held for a moment while something is found or published: nothing is collected meanwhile."""
        return self._gate(fcntl.LOCK_SH)

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        """Held while the store is collected."""
        return self._gate(fcntl.LOCK_EX)

    @contextlib.contextmanager
    def _gate(self, operation: int) -> Iterator[None]:
        try:
            descriptor = self._open_gate()
        except OSError:  # a store that may only be read is not collected from here either
            yield
            return
        try:
            fcntl.flock(descriptor, operation)
            yield
        finally:
            os.close(descriptor)

    def _open_gate(self) -> int:
        path = self.root / "locks" / "gc"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, flags, 0o666)

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """Held by a build from before its first hit to its end: what it touches is not collected.

        Raises:
            MachineError: the store cannot be written.
        """
        folder = self.root / "leases"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self.shared():
                descriptor, name = tempfile.mkstemp(dir=folder)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise unwritable(self.root, error) from error
        try:
            yield
        finally:
            Path(name).unlink(missing_ok=True)
            os.close(descriptor)

    def running_since(self) -> float | None:
        """When the oldest build that still runs began (seconds since the epoch); leases of dead ones are removed.

        Call it while :meth:`exclusive` is held.
        """
        begun = []
        folder = self.root / "leases"
        for path in folder.iterdir() if folder.is_dir() else ():
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            except OSError:  # another user's: nobody can say that it is dead
                begun.append(path.stat().st_mtime)
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
            except BlockingIOError:
                begun.append(os.fstat(descriptor).st_mtime)
            finally:
                os.close(descriptor)
        return min(begun, default=None)


def _parse(key: str, content: bytes) -> Record:
    data = json.loads(content)
    digest = data.pop("digest")
    if data["key"] != key or digest_json(data) != digest:
        raise ValueError(key)
    return Record(**data)


def describe_output(value: object) -> tuple[str, Json]:
    """``kind`` and ``output`` of a record."""
    return type(value).__name__, to_json(value, paths=False)


def write_atomically(path: Path, content: bytes) -> None:
    """A small file that appears whole or not at all, read-only.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fchmod(descriptor, 0o444)
            os.fsync(descriptor)
        put(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
