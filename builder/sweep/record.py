"""What was measured, kept at once: a sweep that was killed goes on, and a changed recipe measures only what changed.

One SQLite file in WAL mode, a row for each point, each in a transaction of its own. A row is found by all that
determines it: subject, setting, load, how long, server, hardware, versions and measuring rules. Searches measure some
points several times; those are told apart by their number. A search is a function of what it measured, so one that
is started again takes the same way through the record, and goes on where it ends.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from array import array
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Self

from builder.core.codec import CodecError
from builder.core.digest import digest_json
from builder.errors import MachineError, disk_error
from builder.sweep import point as points

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from builder.artifacts import Json
    from builder.sweep.load import Load
    from builder.sweep.point import Point
    from builder.sweep.setting import Setting

NAME: Final = "sweeps/record.sqlite"  # in the user's cache

_VERSION: Final = 1  # of the table
_BUSY_SECONDS: Final = 30.0  # two sweeps may share a record: a row is written in milliseconds
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS points (
    key TEXT NOT NULL, nth INTEGER NOT NULL,
    identity TEXT NOT NULL, setting TEXT NOT NULL, load TEXT NOT NULL,
    status TEXT NOT NULL, throughput REAL, p99_ms REAL, seconds REAL NOT NULL, at TEXT NOT NULL,
    point TEXT NOT NULL, latencies BLOB NOT NULL,
    PRIMARY KEY (key, nth)
) WITHOUT ROWID
"""
_INSERT: Final = "INSERT OR {} INTO points VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Record:
    """The file. Close it, or use it in a ``with``."""

    path: Path
    _connection: sqlite3.Connection

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens a record, and makes it where there is none.

        Raises:
            MachineError: the file cannot be written, is no record, or was written by another version.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(path, error) from error
        with _explained(path):
            connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                _prepare(connection, path)
            except BaseException:
                connection.close()
                raise
        return cls(path, connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends; what was written stays."""
        self._connection.close()

    def find(self, identity: Mapping[str, Json], nth: int = 0) -> Point | None:
        """The n-th point, from 0, that was measured of this identity; None: there are not so many."""
        query = "SELECT point, latencies FROM points WHERE key = ? AND nth = ?"
        with _explained(self.path):
            row = self._connection.execute(query, (digest_json(dict(identity)), nth)).fetchone()
        try:
            return None if row is None else _unpacked(*row)
        except (CodecError, ValueError, zlib.error):
            return None  # another version wrote it: it is measured again, and the old one stays for that version

    def add(self, identity: Mapping[str, Json], point: Point, nth: int = 0, *, again: bool = False) -> None:
        """Keeps a point, at once. Where another sweep was first with this number, its point stays, unless ``again``."""
        said = [_text(one) for one in (dict(identity), point.setting.as_json(), point.load.as_json())]
        figures = [point.status, point.figure("throughput"), point.figure("p99_ms"), point.seconds, point.at]
        values = (digest_json(dict(identity)), nth, *said, *figures, *_packed(point))
        with _explained(self.path):
            self._connection.execute(_INSERT.format("REPLACE" if again else "IGNORE"), values)

    def __len__(self) -> int:
        """How many points it holds."""
        with _explained(self.path):
            return int(self._connection.execute("SELECT count(*) FROM points").fetchone()[0])


@dataclass(slots=True)
class Recorded:
    """Measures what the record does not have, and keeps it at once: the ``measure`` that searches are given.

    Args:
        record: where points are kept.
        measure: how a point is measured: takes seconds of wall time.
        determines: all that determines a point beside setting, load and seconds; of a setting, for some settings are
            builds of their own. None: nobody knows, so the point is not kept.
        fresh: measure all anew, in place of what the record has.
        measured: how many points were measured; ``found``: how many the record had.
    """

    record: Record
    measure: Callable[[Setting, Load, float], Point]
    determines: Callable[[Setting], Mapping[str, Json] | None]
    fresh: bool = False
    measured: int = 0
    found: int = 0
    _times: Counter[str] = field(default_factory=Counter)

    def __call__(self, setting: Setting, load: Load, seconds: float) -> Point:
        """The point: from the record, or measured and recorded."""
        identity = self.identity(setting, load, seconds)
        if identity is None:
            self.measured += 1
            return self.measure(setting, load, seconds)
        key = digest_json(identity)
        nth = self._times[key]
        self._times[key] += 1
        if not self.fresh and (known := self.record.find(identity, nth)) is not None:
            self.found += 1
            return replace(known, setting=setting, load=load)  # as it was asked for: what is moot is not recorded
        point = self.measure(setting, load, seconds)
        self.record.add(identity, point, nth, again=self.fresh)
        self.measured += 1
        return point

    def identity(self, setting: Setting, load: Load, seconds: float) -> dict[str, Json] | None:
        """All that determines a point."""
        determined = self.determines(setting)
        if determined is None:
            return None
        said = {"setting": setting.as_json(), "load": load.as_json(), "seconds": float(seconds)}
        return {**determined, **said}


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version not in {0, _VERSION}:
        raise MachineError(
            f"{path}: a record of version {version}; this tritonsmith writes version {_VERSION}",
            mend="name another file with --record",
        )
    connection.execute("PRAGMA journal_mode=WAL")  # a reader, such as a second sweep, stops no writer
    connection.execute("PRAGMA synchronous=FULL")  # a point costs seconds, and fsync milliseconds
    connection.execute(_TABLE)
    connection.execute(f"PRAGMA user_version={_VERSION}")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise MachineError(
            f"{path}: the record of sweeps cannot be used: {error}",
            mend="name another file with --record, or remove this one if it is damaged",
        ) from error


def _text(data: Json) -> str:
    return json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _packed(point: Point) -> tuple[str, bytes]:
    """The point as JSON, and its latencies, which JSON leaves out: microseconds are exact enough, as 32-bit floats."""
    latencies = array("f", (one for window in point.windows for one in window.latencies_ms))
    sizes = [len(window.latencies_ms) for window in point.windows]
    return _text({**point.as_json(), "latency_counts": sizes}), zlib.compress(latencies.tobytes())


def _unpacked(text: str, blob: bytes) -> Point:
    data: dict[str, Any] = json.loads(text)
    sizes = data.pop("latency_counts")
    point, latencies = points.from_json(data), array("f", zlib.decompress(blob)).tolist()
    if len(sizes) != len(point.windows) or sum(sizes) != len(latencies):
        raise CodecError("the latencies of another point")
    rest = iter(latencies)
    windows = [
        replace(window, latencies_ms=tuple(next(rest) for _ in range(size)))
        for window, size in zip(point.windows, sizes, strict=True)
    ]
    return replace(point, windows=tuple(windows))
