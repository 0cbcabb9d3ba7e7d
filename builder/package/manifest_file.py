"""The manifest's file: written whole or not at all, and read with care: it may be anybody's."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from pydantic import ValidationError

from builder.core.digest import canonical_json
from builder.errors import ArchiveError, disk_error
from builder.package.manifest import SCHEMA_VERSION, Manifest
from builder.recipe.tasks import tolerances
from builder.tools.atomic import write

if TYPE_CHECKING:
    from pathlib import Path


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Writes a manifest, whole or not at all. One that says the same already is left.

    Raises:
        MachineError: the disk is full or cannot be written.
    """
    data = manifest.model_dump(mode="json")
    with contextlib.suppress(OSError, ValueError):
        if canonical_json(json.loads(path.read_bytes())) == canonical_json(data):
            return
    text = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, text.encode() + b"\n")
    except OSError as error:
        raise disk_error(path, error) from error


def read_manifest(path: Path) -> Manifest:
    """Reads a manifest.

    Raises:
        ArchiveError: it is missing, damaged, or of a later tritonsmith, or does not say what the answers of its metric
            are held against.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArchiveError(
            f"{path}: the archive's manifest cannot be read: {error.strerror}",
            mend="keep the archive and the files beside it together",
        ) from error
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise ArchiveError(
            f"{path}: {_problem(data, error)}", mend="fetch it again, or build the archive again"
        ) from error
    _check_tolerances(path, manifest)
    return manifest


def _check_tolerances(path: Path, manifest: Manifest) -> None:
    """A tolerance that is left out would be a figure that nothing is held against."""
    metric, precision = manifest.reference.metric, manifest.target.precision
    try:
        wanted = tolerances(metric, precision)
    except KeyError:
        raise ArchiveError(
            f"{path}: target.precision: this tritonsmith has no tolerances for {metric} at {precision!r}",
            mend="take the tritonsmith that built the archive, or build it again",
        ) from None
    missing = sorted(wanted.keys() - manifest.gates.tolerances.keys())
    if missing:
        raise ArchiveError(
            f"{path}: gates.tolerances: {', '.join(missing)} is missing; {metric} is held against {', '.join(wanted)}",
            mend="fetch it again, or build the archive again",
        )


def _problem(data: bytes, error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if place == "schema_version":
        return f"has schema version {first['input']!r}; this tritonsmith reads {SCHEMA_VERSION}"
    if not place:
        return f"is no manifest: {first['msg']} ({len(data)} bytes)"
    return f"{place}: {first['msg']}, got {str(first['input'])[:60]!r}"
