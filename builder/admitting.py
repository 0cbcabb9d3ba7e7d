"""Is an archive one that can be unpacked and hosted at all? What every command asks that is given one.

The rules are lint's. Unpacking refuses by itself what nobody should unpack; here it is refused with all that is wrong,
and what is laid out wrongly with it, before anything is unpacked, served or handed off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.errors import ArchiveError
from builder.lint import Options, lint
from builder.lint.options import DEFAULT_RELEASE
from builder.lint.rules.hosts import MULTI, SINGLE
from builder.package import manifest_path, read_manifest
from builder.package.formats import named
from builder.tools import sagemaker_environment
from builder.tools.releases import names
from builder.tools.sagemaker_environment import Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.lint import Finding
    from builder.package import Manifest

RULES: Final = frozenset({"A1", "A2", "A3", "A4", "A5", "A6", "A8", "A10", "A11", "A32", "E11"})
"""What makes an archive as such a bad one: members, root, versions, composing models."""


def admit(path: Path, *, hosted: bool = False) -> None:
    """Refuses an archive that breaks a rule about archives.

    The host whose rules count is the one whose format the manifest beside the archive states.

    Args:
        path: the archive, or the folder of one; of a folder without a manifest beside it, nothing is said.
        hosted: whether it goes to SageMaker, whatever its format is.

    Raises:
        ArchiveError: it breaks rules; or it, or the manifest, is damaged. ``rule`` is the first of them.
        MachineError: it cannot be read.
    """
    if not path.is_file() and not (path.is_dir() and manifest_path(path).is_file()):
        return
    if found := [one for one in lint(path, options(path, hosted=hosted)).errors if one.rule in RULES]:
        raise ArchiveError(f"{path}: is refused:\n{_lines(found)}", rule=found[0].rule)


def _lines(found: list[Finding]) -> str:
    return "\n".join(f"  {one.text}" for one in found)


def options(path: Path, *, hosted: bool = False) -> Options:
    """What the manifest beside an archive says of its host and its Triton; without one, what lint assumes.

    Args:
        path: the archive.
        hosted: whether it goes to SageMaker, whatever its format is.

    Raises:
        ArchiveError: the manifest is damaged.
    """
    beside = manifest_path(path)
    if not beside.is_file():
        return Options()
    manifest = read_manifest(beside)
    host = named(manifest.archive.format).host or (SINGLE if hosted else "")
    variables = tuple(environment(host, manifest).items()) if host else ()
    triton = manifest.target.triton
    known = triton if triton in names() else DEFAULT_RELEASE  # of one that a later tritonsmith knows
    return Options(release=known, host=host, environment=variables, explicit=bool(host))


def environment(host: str, manifest: Manifest) -> Mapping[str, str]:
    """The variables that a manifest states for a host; of an archive for another host, those that it would."""
    if named(manifest.archive.format).host == host:
        return manifest.environment
    wanted = Wanted() if host == MULTI else Wanted(manifest.name, manifest.load_models)
    return sagemaker_environment.plan(wanted)
