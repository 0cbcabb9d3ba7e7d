"""Where what belongs to an archive, or to a folder of a format that is not packed, lies: beside it, under its stem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.package.attest import PROVENANCE, SBOM
from builder.package.formats import SUFFIX

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST: Final = ".manifest.json"
SEAL: Final = ".sha256sums"
BESIDE: Final = {
    "samples.jsonl": ".samples.jsonl",
    "expected.safetensors": ".expected.safetensors",
    "expected.json": ".expected.json",  # only of pipelines
    PROVENANCE: ".provenance.json",
    SBOM: ".sbom.cdx.json",
}
"""Files of :class:`builder.artifacts.Reference` and :class:`~builder.artifacts.Attested` → what follows the stem."""


def stem(name: str) -> str:
    """What all that belongs together begins with: the name without an archive's suffix."""
    return name.removesuffix(SUFFIX)


def path_beside(archive: Path, suffix: str) -> Path:
    """Where a file that belongs to an archive or a folder lies."""
    path = archive.absolute()  # `.` has no name, and `/` none at all
    return path.parent / (stem(path.name) + suffix)


def manifest_path(archive: Path) -> Path:
    """Where the manifest of an archive or a folder lies."""
    return path_beside(archive, MANIFEST)


def seal_path(archive: Path) -> Path:
    """Where the checksums of an archive or a folder lie, if it is signed."""
    return path_beside(archive, SEAL)


def attested_path(archive: Path, name: str) -> Path:
    """Where a file of :class:`builder.artifacts.Attested` lies."""
    return path_beside(archive, BESIDE[name])
