"""A CycloneDX bill of materials: https://cyclonedx.org/specification/overview/.

The same parts make the same bytes: nothing is drawn at random, and there is no time in it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from uuid import UUID, uuid5

from builder import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License

SPECIFICATION: Final = "1.7"  # the newest that the library writes

Kind: TypeAlias = Literal["application", "machine-learning-model", "library", "framework", "platform", "file"]

_NAMESPACE: Final = UUID("a3f3fe0e-4a2c-5f0e-9d8a-6d1b1c7f2f40")  # ours; for serial numbers alone


@dataclass(frozen=True, slots=True)
class Part:
    """Something that is in an archive, or that it needs to be served (``external``).

    ``licences`` are SPDX ids, expressions, or names in words; ``sha256`` is of the part as it was fetched.
    """

    kind: Kind
    name: str
    ref: str  # names it within the document
    version: str | None = None
    licences: tuple[str, ...] = ()
    purl: str | None = None
    sha256: str | None = None
    external: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()


def serial_number(tree_digest: str) -> str:
    """``urn:uuid:…`` of the bill of an archive: made of its tree digest."""
    return uuid5(_NAMESPACE, tree_digest).urn


def write(archive: Part, parts: Iterable[Part], tree_digest: str) -> bytes:
    """The bill of an archive as JSON.

    Args:
        archive: the archive itself.
        parts: what is in it, and what serves it.
        tree_digest: of the archive.
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.tool import ToolRepository
    from cyclonedx.output.json import JsonV1Dot7

    root, components = _component(archive), [_component(part) for part in parts]
    bom = Bom(components=components, serial_number=UUID(serial_number(tree_digest)))
    bom.metadata.component = root
    bom.metadata.tools = ToolRepository(components=[_component(Part("application", "tritonsmith", "", __version__))])
    bom.register_dependency(root, components)
    data = json.loads(JsonV1Dot7(bom).output_as_string())
    data["metadata"].pop("timestamp", None)  # the library always writes the hour
    return (json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _component(part: Part) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    return Component(
        type=ComponentType(part.kind),
        name=part.name,
        bom_ref=part.ref or None,
        version=part.version,
        is_external=part.external or None,
        licenses=_licences(part.licences),
        purl=PackageURL.from_string(part.purl) if part.purl else None,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=part.sha256)] if part.sha256 else (),
        properties=[Property(name=f"tritonsmith:{name}", value=value) for name, value in part.properties.items()],
        components=map(_component, part.parts),
    )


def _licences(stated: Iterable[str]) -> list[License]:
    """SPDX's own names where it is one of theirs; CycloneDX takes one expression, or any number of licences."""
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.license import LicenseExpression

    make = LicenseFactory()
    found = [make.make_from_string(one) for one in stated]
    if len(found) > 1 and any(isinstance(one, LicenseExpression) for one in found):
        return [make.make_with_name(one) for one in stated]
    return found
