"""Files and configs → a model repository → an archive with its manifest."""

from builder.package.delivery import Delivery, check_trust, collect, deliver, manifest_path
from builder.package.manifest import (
    Manifest,
    describe,
    describe_composed,
    describe_model,
    gates,
    only_python,
    read_manifest,
    with_verdict,
    write_manifest,
)
from builder.package.pack import Pack
from builder.package.repository import BUILD_FILE, Package, PackageInputs, package

__all__ = [
    "BUILD_FILE",
    "Delivery",
    "Manifest",
    "Pack",
    "Package",
    "PackageInputs",
    "check_trust",
    "collect",
    "deliver",
    "describe",
    "describe_composed",
    "describe_model",
    "gates",
    "manifest_path",
    "only_python",
    "package",
    "read_manifest",
    "with_verdict",
    "write_manifest",
]
