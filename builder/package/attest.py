"""The stage ``attest``: what an archive was made of, and what is in it, as others' tools read it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from builder import __version__
from builder.artifacts import Attested
from builder.core.digest import describe_file
from builder.errors import InternalError
from builder.package.provenance import digest_templates, statement
from builder.package.repository import pretty
from builder.tools.releases import release
from builder.tools.wheels import installed_version

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.artifacts import File, Json, Repository
    from builder.package.manifest import Manifest

PROVENANCE: Final = "provenance.json"
SBOM: Final = "sbom.cdx.json"

_LIBRARY: Final = "cyclonedx-python-lib"
_METADATA: Final = ".dist-info/METADATA"


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
        """No digests of templates: which of them are in an archive hangs on its tree, which is in the statement."""
        manifest = inputs.manifest
        triton, engine = release(manifest.target.triton), manifest.engine
        return {
            "statement": statement(manifest, {}),
            "archive": manifest.archive.sha256,
            "release": [triton.name, triton.server_version, triton.onnxruntime],
            "engine": [engine.runtime, engine.library] if engine else [],
            "metadata": [file.sha256 for file in self.reads(inputs)],
            "tritonsmith": __version__,
            "versions": {_LIBRARY: installed_version(_LIBRARY)},
        }

    def requires(self, inputs: AttestInputs) -> None:
        pass

    def reads(self, inputs: AttestInputs) -> list[File]:
        """What vendored packages say of themselves."""
        files = inputs.repository.files.items()
        return [file for path, file in files if "/vendor/" in path and path.endswith(_METADATA)]

    def run(self, inputs: AttestInputs, out: Path) -> Attested:
        from builder.package import bill
        from builder.tools import sbom

        manifest = inputs.manifest
        (out / PROVENANCE).write_bytes(pretty(statement(manifest, digest_templates())))
        parts = bill.parts(manifest, self.reads(inputs))
        (out / SBOM).write_bytes(sbom.write(bill.archive(manifest), parts, manifest.archive.tree_digest))
        return Attested({name: describe_file(out / name) for name in (PROVENANCE, SBOM)})

    def ensures(self, inputs: AttestInputs, output: Attested) -> None:
        from builder.package import bill

        if bill.about(json.loads(output.files[SBOM].path.read_bytes())) != inputs.manifest.archive.sha256:
            raise InternalError(f"{SBOM}: is not about {inputs.manifest.archive.file}")
