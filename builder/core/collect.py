"""What lies in a store: counted, verified, and thrown away when nobody needs it.

Collected are records that were not used for a while, or the least recently used ones, or all that the given keys do not
reach; then the blobs that no record refers to. Never what a running build uses: each build holds a lease from before
its first hit, and what was used or published since the oldest lease began stays. *Used* is the time of modification of
a record or blob, which is set to now whenever one is found or adopted.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.core.blobs import READ_ONLY
from builder.core.workspace import remove, sweep

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from builder.artifacts import Json
    from builder.core.store import Record, Store

log = logging.getLogger(__name__)

_TALK_SECONDS: Final = 2.0
_LEFTOVER_SECONDS: Final = 3600.0
"""Temporary files of this age belong to nobody: they are written in one go."""


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """One record as it lies in a store."""

    path: Path
    record: Record
    used: float  # seconds since the epoch
    size: int  # bytes of its own file
    blobs: dict[str, int]  # sha256 → size, as the record says


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a store holds. Sizes in bytes; a blob counts once, and for the first stage by name that refers to it."""

    folder: str
    records: int
    blobs: int
    size: int
    unreferenced: int  # bytes of blobs that no record refers to
    stages: dict[str, dict[str, float]]  # records, bytes, seconds that they took
    oldest_use: float | None  # seconds ago
    running: bool  # whether a build uses the store now


@dataclass(frozen=True, slots=True)
class Checked:
    """What a verification found."""

    records: int
    blobs: int
    size: int  # bytes that were read
    damaged: tuple[str, ...]  # paths, relative to the store; removed
    missing: tuple[str, ...]  # records that refer to blobs that are not there; removed

    @property
    def is_clean(self) -> bool:
        """Whether all was as it should be."""
        return not self.damaged and not self.missing


@dataclass(frozen=True, slots=True)
class Rule:
    """What may be collected. Of several limits, what any of them condemns goes.

    Args:
        older_than_seconds: records that were not used for so long.
        max_size: bytes: the least recently used records, until the blobs and records that stay are no more.
        keep: keys; all other records go.
    """

    older_than_seconds: float | None = None
    max_size: int | None = None
    keep: Collection[str] | None = None


@dataclass(slots=True)
class Collected:
    """What was thrown away, and what stays."""

    records: int = 0
    blobs: int = 0
    freed: int = 0  # bytes
    left: int = 0  # bytes
    in_use: int = 0  # records that a running build uses: they stay, whatever was asked


def statistics(store: Store) -> Statistics:
    """Counts what a store holds, by stat alone."""
    sizes = {sha256: found.st_size for sha256, found in store.blobs.all()}
    stages: dict[str, dict[str, float]] = {}
    counted: set[str] = set()
    entries = sorted(kept_records(store), key=lambda kept: kept.record.stage)
    for kept in entries:
        stage = stages.setdefault(kept.record.stage, {"records": 0, "size": 0, "seconds": 0.0})
        own = {sha256: size for sha256, size in kept.blobs.items() if sha256 in sizes and sha256 not in counted}
        counted |= own.keys()
        stage["records"] += 1
        stage["size"] += kept.size + sum(own.values())
        stage["seconds"] = round(stage["seconds"] + kept.record.seconds, 3)
    with store.exclusive():
        running = store.running_since() is not None
    now = time.time()
    return Statistics(
        folder=str(store.root),
        records=len(entries),
        blobs=len(sizes),
        size=sum(sizes.values()) + sum(kept.size for kept in entries),
        unreferenced=sum(size for sha256, size in sizes.items() if sha256 not in counted),
        stages=stages,
        oldest_use=max((round(now - kept.used, 1) for kept in entries), default=None),
        running=running,
    )


def verify(store: Store) -> Checked:
    """Reads all that a store holds; what is damaged is removed, so that the next build makes it again."""
    damaged, size, count = [], 0, 0
    spoke = time.monotonic()
    for sha256, found in store.blobs.all():
        path = store.blobs.path(sha256)
        whole = store.blobs.is_whole(sha256)
        if not whole and not path.exists():
            continue  # collected meanwhile
        count, size = count + 1, size + found.st_size
        if not whole:
            store.blobs.discard(path)
            damaged.append(str(path.relative_to(store.root)))
        elif found.st_mode & 0o777 != READ_ONLY:
            path.chmod(READ_ONLY)
        if time.monotonic() - spoke > _TALK_SECONDS:
            spoke = time.monotonic()
            log.info("read %d files, %.0f MB", count, size / 1e6)
    with store.shared():  # what is collected meanwhile is not damage
        before = set(store.root.glob("records/*/*.json"))
        entries = list(kept_records(store))
        notes = list(store.damaged_notes())
        incomplete = [
            kept for kept in entries if not all(store.blobs.has(sha256, size) for sha256, size in kept.blobs.items())
        ]
        for path in (*notes, *(kept.path for kept in incomplete)):
            remove(path)
    damaged += [str(path.relative_to(store.root)) for path in sorted(before - {kept.path for kept in entries})]
    damaged += [str(path.relative_to(store.root)) for path in notes]
    missing = tuple(f"{kept.record.stage} {kept.record.key[:16]}" for kept in incomplete)
    return Checked(len(entries), count, size, tuple(damaged), missing)


def collect(store: Store, rule: Rule) -> Collected:
    """Throws away what the rule condemns, and what no record refers to.

    Raises:
        OSError: the store cannot be written.
    """
    done = Collected()
    with store.exclusive():
        since = store.running_since()
        entries = sorted(kept_records(store), key=lambda kept: kept.used)
        in_use = [kept for kept in entries if since is not None and kept.used >= since]
        staying = _staying(entries, rule, in_use)
        done.in_use = len(in_use)
        referred = {sha256 for kept in staying for sha256 in kept.blobs}
        paths = {kept.path for kept in staying}
        for kept in entries:
            if kept.path not in paths:
                remove(kept.path)
                done.records, done.freed = done.records + 1, done.freed + kept.size
        for sha256, found in store.blobs.all():
            if sha256 in referred or (since is not None and found.st_mtime >= since):
                done.left += found.st_size
            else:
                remove(store.blobs.path(sha256))
                done.blobs, done.freed = done.blobs + 1, done.freed + found.st_size
        done.left += sum(kept.size for kept in staying)
        _sweep(store, since)
    return done


def kept_records(store: Store) -> Iterator[Kept]:
    """Every record that is whole; damaged ones are removed, with a warning."""
    for path in sorted(store.root.glob("records/*/*.json")):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        if (record := store.read(path.stem)) is not None:
            yield Kept(path, record, status.st_mtime, status.st_size, dict(_blobs(record.output)))


def _blobs(output: Json) -> Iterator[tuple[str, int]]:
    """The files in a record's output, wherever they are: mappings of exactly ``sha256`` and ``size``."""
    if isinstance(output, dict):
        if output.keys() == {"sha256", "size"} and isinstance(output["sha256"], str):
            yield output["sha256"], output["size"]
        else:
            for value in output.values():
                yield from _blobs(value)
    elif isinstance(output, list):
        for value in output:
            yield from _blobs(value)


def _staying(entries: list[Kept], rule: Rule, in_use: list[Kept]) -> list[Kept]:
    """The records that stay, of all, which are sorted by their last use."""
    now = time.time()
    wanted = []
    for kept in entries:
        old = rule.older_than_seconds is not None and now - kept.used > rule.older_than_seconds
        unreached = rule.keep is not None and kept.record.key not in rule.keep
        if not old and not unreached and kept not in in_use:
            wanted.append(kept)
    return [*in_use, *wanted] if rule.max_size is None else _within(in_use, wanted, rule.max_size)


def _within(in_use: list[Kept], wanted: list[Kept], max_size: int) -> list[Kept]:
    """The most recently used records that fit, with the blobs that they refer to, each counted once."""
    staying: list[Kept] = []
    counted: dict[str, int] = {}
    used = 0
    for kept in (*in_use, *reversed(wanted)):
        more = kept.size + sum(size for sha256, size in kept.blobs.items() if sha256 not in counted)
        if used + more <= max_size or kept in in_use:
            used += more
            counted |= kept.blobs
            staying.append(kept)
    return staying


def _sweep(store: Store, since: float | None) -> None:
    """Temporary files of killed processes, and locks that nobody holds."""
    if (store.root / "builds").is_dir():
        sweep(store.root / "builds")
    before = min(time.time() - _LEFTOVER_SECONDS, since or float("inf"))
    for pattern in ("records/*/.*.tmp", "nodes/.*.tmp", "stats/*.tmp", "locks/*.lock"):
        for path in store.root.glob(pattern):
            try:
                if path.stat().st_mtime < before:
                    path.unlink()
            except FileNotFoundError:
                continue
