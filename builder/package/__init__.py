"""Files and configs → a model repository → an archive with its manifest."""

from builder.package.collecting import check_trust, collect
from builder.package.delivery import Delivery, deliver
from builder.package.describing import describe, describe_composed, describe_model, gates, with_verdict
from builder.package.manifest import Manifest, only_python
from builder.package.manifest_file import read_manifest, write_manifest
from builder.package.pack import Pack
from builder.package.places import manifest_path
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
