"""What the files beside an archive say, for people: where it comes from, what is in it, and who signed it.

They are told as they are, and not checked: that is what ``tritonsmith verify`` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.package.attest import PROVENANCE, SBOM
from builder.package.attested import read_attested
from builder.package.places import attested_path, seal_path
from builder.package.seal import is_sealed, signature_of
from builder.tools import ssh_signature

if TYPE_CHECKING:
    from pathlib import Path

    from builder.artifacts import Json


@dataclass(frozen=True, slots=True)
class Component:
    """A line of a bill of materials."""

    kind: str
    name: str
    version: str
    licences: tuple[str, ...]
    external: bool  # not in the archive: what serves it has it


@dataclass(frozen=True, slots=True)
class Beside:
    """What lies beside an archive. ``signer``: the key that signed; None where ``signed``: the signature is broken."""

    provenance: Json
    components: tuple[Component, ...]
    has_bill: bool
    signed: bool
    signer: str | None

    def as_json(self) -> dict[str, Json]:
        """For ``--json``: stable keys."""
        bill = [
            {"type": one.kind, "name": one.name, "version": one.version, "licences": list(one.licences)}
            | {"external": one.external}
            for one in self.components
        ]
        return {
            "provenance": self.provenance,
            "sbom": bill if self.has_bill else None,
            "signature": {"state": self.state, "key": self.signer},
        }

    @property
    def state(self) -> str:
        """Whether a signature belongs to its checksums, by whatever key: unsigned | signed | broken."""
        if not self.signed:
            return "unsigned"
        return "signed" if self.signer else "broken"


def look_beside(archive: Path) -> Beside:
    """Reads what lies beside an archive; what is not there is left out.

    Raises:
        ArchiveError: a file cannot be read.
        MachineError: it is signed, and there is no ssh-keygen.
    """
    bill, checksums = read_attested(attested_path(archive, SBOM)), seal_path(archive)
    signed = is_sealed(checksums)
    return Beside(
        provenance=read_attested(attested_path(archive, PROVENANCE)),
        components=tuple(map(_component, bill.get("components", ()))) if bill else (),
        has_bill=bill is not None,
        signed=signed,
        signer=ssh_signature.signed_by(checksums, signature_of(checksums)) if signed else None,
    )


def _component(data: Json) -> Component:
    licences = [one.get("expression") or one.get("license", {}) for one in data.get("licenses", ())]
    return Component(
        str(data.get("type", "")),
        str(data.get("name", "")),
        str(data.get("version", "")),
        tuple(one if isinstance(one, str) else one.get("id") or one.get("name", "") for one in licences),
        bool(data.get("isExternal", False)),
    )
