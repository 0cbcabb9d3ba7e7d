"""What can befall the files of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from builder.core.store import Store


def files(store: Store) -> list[Path]:
    """All that a store holds and that has content: blobs, records, last fingerprints, what is known by stat."""
    return [path for part in ("blobs", "records", "nodes", "stats") for path in _below(store.root / part)]


def strike(path: Path, kind: str, dice: random.Random) -> None:
    """Damages a file in one of :data:`KINDS`."""
    path.chmod(0o644)
    KINDS[kind](path, dice)
    if path.is_file() and kind not in {"writable", "forbidden"}:
        path.chmod(0o444)  # as it was: stat must not tell


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _flip(path: Path, dice: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)


def _cut(path: Path, dice: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: dice.randrange(len(content))] if content else b"")


def _empty(path: Path, _: random.Random) -> None:
    path.write_bytes(b"")


def _lengthen(path: Path, dice: random.Random) -> None:
    with path.open("ab") as stream:
        stream.write(dice.randbytes(1 + dice.randrange(9000)))


def _delete(path: Path, _: random.Random) -> None:
    path.unlink()


def _make_folder(path: Path, dice: random.Random) -> None:
    path.unlink()
    path.mkdir()
    if dice.randrange(2):
        (path / "inside").write_text("x")


def _leave_writable(path: Path, _: random.Random) -> None:
    path.chmod(0o644)


def _forbid(path: Path, _: random.Random) -> None:
    path.chmod(0)


KINDS: dict[str, Callable[[Path, random.Random], None]] = {
    "flipped": _flip,
    "cut": _cut,
    "emptied": _empty,
    "longer": _lengthen,
    "deleted": _delete,
    "folder": _make_folder,
    "writable": _leave_writable,
    "forbidden": _forbid,
}
CONTENT = ("flipped", "cut", "emptied", "longer", "folder")
"""Of those, what a verification of the store must name; what is deleted it cannot see, modes it mends."""
