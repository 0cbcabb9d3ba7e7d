"""Provenance and bill of materials as they lie beside an archive: are they what was written, and about this archive?"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from builder.errors import ArchiveError
from builder.package.attest import PROVENANCE, SBOM
from builder.package.provenance import PREDICATE, STATEMENT, subject_digest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.artifacts import File, Json
    from builder.package.manifest import ArchiveFacts

_MEND: Final = "fetch it again, or build the archive again"


def check_attested(files: Mapping[str, File], archive: ArchiveFacts) -> None:
    """Checks the files beside an archive.

    Args:
        files: with the digests that the manifest states.
        archive: what the manifest says of the archive.

    Raises:
        ArchiveError: one is not what it was, or is about something else.
    """
    for name, file in files.items():
        data = _load(file.path, _read(file))
        if name == PROVENANCE and not _is_subject(data, archive):
            raise ArchiveError(f"{file.path}: is the provenance of another archive than {archive.file}", mend=_MEND)
        if name == SBOM and not _is_billed(data, archive):
            raise ArchiveError(
                f"{file.path}: is the bill of materials of another archive than {archive.file}", mend=_MEND
            )


def read_attested(path: Path) -> Json:
    """A file of the two; None where there is none.

    Raises:
        ArchiveError: it cannot be read, or holds no JSON.
    """
    if not path.is_file():
        return None
    try:
        return _load(path, path.read_bytes())
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read: {error.strerror}") from error


def _read(file: File) -> bytes:
    try:
        content = file.path.read_bytes()
    except OSError as error:
        raise ArchiveError(f"{file.path}: cannot be read: {error.strerror}", mend=_MEND) from error
    if (found := hashlib.sha256(content).hexdigest()) != file.sha256:
        raise ArchiveError(f"{file.path}: has sha256 {found}; the manifest says {file.sha256}", mend=_MEND)
    return content


def _load(path: Path, content: bytes) -> dict[str, Json]:
    try:
        data = json.loads(content)
    except ValueError as error:
        raise ArchiveError(f"{path}: is no JSON: {error}", mend=_MEND) from error
    if not isinstance(data, dict):
        raise ArchiveError(f"{path}: is no JSON object", mend=_MEND)
    return data


def _is_billed(data: Mapping[str, Json], archive: ArchiveFacts) -> bool:
    from builder.package.bill import about  # not by builds, which have just written it
    from builder.tools import sbom

    return data.get("serialNumber") == sbom.serial_number(archive.tree_digest) and about(data) == archive.sha256


def _is_subject(data: Mapping[str, Json], archive: ArchiveFacts) -> bool:
    kind = (data.get("_type"), data.get("predicateType"))
    subject = [{"name": archive.file, "digest": subject_digest(archive)}]
    return kind == (STATEMENT, PREDICATE) and data.get("subject") == subject
