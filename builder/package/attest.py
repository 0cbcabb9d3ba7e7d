"""The stage ``attest``: what an archive was made of, and what is in it, as others' tools read it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from builder import __version__
from builder.artifacts import Attested
from builder.core.digest import describe_file
from builder.errors import InternalError
from builder.package import bill
from builder.package.provenance import digest_templates, statement
from builder.package.repository import pretty
from builder.tools import sbom
from builder.tools.wheels import installed_version

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.artifacts import File, Json, Repository
    from builder.package.manifest import Manifest

PROVENANCE: Final = "provenance.json"
SBOM: Final = "sbom.cdx.json"


@dataclass(frozen=True, slots=True)
class AttestInputs:
    """An archive's manifest, and the repository that was packed."""

    manifest: Manifest
    repository: Repository


@dataclass(frozen=True, slots=True)
class Attest:
    """Writes provenance and bill of materials of an archive."""

    name: ClassVar[str] = "attest"
    version: ClassVar[int] = 1

    def fingerprint(self, inputs: AttestInputs) -> Mapping[str, Json]:
        manifest = inputs.manifest
        return {
            "statement": statement(manifest, digest_templates()),
            "tree": manifest.archive.tree_digest,
            "archive": manifest.archive.sha256,
            "target": manifest.target.model_dump(mode="json"),
            "runtime": list(bill.runtime(manifest)),
            "metadata": {path: file.sha256 for path, file in bill.metadata_files(inputs.repository).items()},
            "tritonsmith": __version__,
            "versions": {sbom.LIBRARY: installed_version(sbom.LIBRARY)},
        }

    def requires(self, inputs: AttestInputs) -> None:
        pass

    def reads(self, inputs: AttestInputs) -> list[File]:
        """What vendored packages say of themselves."""
        return list(bill.metadata_files(inputs.repository).values())

    def run(self, inputs: AttestInputs, out: Path) -> Attested:
        manifest = inputs.manifest
        (out / PROVENANCE).write_bytes(pretty(statement(manifest, digest_templates())))
        parts = bill.parts(manifest, inputs.repository)
        (out / SBOM).write_bytes(sbom.write(bill.archive(manifest), parts, manifest.archive.tree_digest))
        return Attested({name: describe_file(out / name) for name in (PROVENANCE, SBOM)})

    def ensures(self, inputs: AttestInputs, output: Attested) -> None:
        if bill.about(json.loads(output.files[SBOM].path.read_bytes())) != inputs.manifest.archive.sha256:
            raise InternalError(f"{SBOM}: is not about {inputs.manifest.archive.file}")
