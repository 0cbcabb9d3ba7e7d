"""Digests: of files, of JSON values, of trees."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from builder.artifacts import File

if TYPE_CHECKING:
    from pathlib import Path

    from builder.artifacts import Json, Tree


def canonical_json(value: Json) -> bytes:
    """The one byte string for a JSON value: sorted keys, no spaces, UTF-8, no NaN.

    Raises:
        ValueError: the value holds NaN or an infinity.
        TypeError: the value is not of the JSON data model.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_json(value: Json) -> str:
    """sha256 of the canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def digest_file(path: Path) -> str:
    """sha256 of the file's content, 64 hex digits.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def describe_file(path: Path) -> File:
    """The :class:`File` for a path: absolute, hashed now."""
    return File(path=path.absolute(), sha256=digest_file(path), size=path.stat().st_size)


def describe_folder(folder: Path) -> dict[str, File]:
    """Every regular file below ``folder``, by its relative POSIX path, in sorted order."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): describe_file(path) for path in paths}


def digest_tree(tree: Tree) -> str:
    """sha256 over the sorted (path, size, sha256) of a tree: independent of where its bytes lie."""
    return digest_json([[path, tree[path].size, tree[path].sha256] for path in sorted(tree)])
