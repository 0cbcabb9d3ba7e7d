"""Archives → facts: read from the manifests beside them, and the files held against them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.artifacts import File
from builder.core.digest import digest_file
from builder.core.trees import differences
from builder.errors import ArchiveError, DamagedError, GateError, UnverifiedError, disk_error
from builder.handoff.plan import PASSED, Facts
from builder.package import manifest_path, read_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from builder.artifacts import Json
    from builder.package import Manifest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shipped:
    """An archive, or a folder of one, and its manifest."""

    path: Path
    manifest: Manifest
    facts: Facts


def gather(paths: Sequence[Path], *, unverified: bool = False) -> tuple[Shipped, ...]:
    """Reads what is known of archives, and checks that they are what their manifests say.

    Args:
        paths: archives, or folders of formats that are not packed; manifests lie beside them.
        unverified: whether archives may go out that nobody could prove.

    Raises:
        ArchiveError: an archive or its manifest is missing or damaged, or there are two of one name.
        DamagedError: an archive is not the one that was verified.
        GateError: an archive failed its verification.
        UnverifiedError: an archive was not verified, and ``unverified`` is not set.
    """
    found = tuple(_read(path) for path in paths)
    for one in found:
        _check_proof(one, unverified=unverified)
    for one in found:
        log.info("checking that %s is what was verified", one.path.name)
        _check_content(one)
    return found


def facts_of(manifest: Manifest) -> Facts:
    """What a hand-off needs to know of an archive."""
    view, repository, engine = manifest.recipe.view, manifest.repository, manifest.engine
    options = engine.record.get("options", {}) if engine else {}
    host = repository.get("host", {})
    of_target = _inside(view, "targets", manifest.target.name)
    serving = _servings(view)
    return Facts(
        name=manifest.name,
        target=manifest.target.name,
        format=manifest.archive.format,
        status=manifest.verification.status,
        file=manifest.archive.file,
        tree_digest=manifest.archive.tree_digest,
        sha256=manifest.archive.sha256,
        packed_bytes=0 if manifest.archive.is_folder else manifest.archive.size,
        unpacked_bytes=manifest.archive.unpacked_size,
        triton=manifest.target.triton,
        runtime=manifest.target.runtime,
        max_batch_size=manifest.max_batch_size,
        max_length=_number(repository.get("max_length")),
        inputs=tuple(repository.get("inputs", ())),  # type: ignore[arg-type]
        outputs=tuple(repository.get("outputs", ())),  # type: ignore[arg-type]
        load_models=manifest.load_models,
        backends=tuple(map(str, host.get("backends", ()))) if isinstance(host, dict) else (),  # type: ignore[arg-type]
        capabilities=tuple(engine.plans) if engine else (),
        library=engine.library if engine else None,
        any_gpu=isinstance(options, dict) and options.get("hardware_compatibility", "none") != "none",
        any_version=isinstance(options, dict) and options.get("version_compatible") is True,
        response_cache=any(_inside(one, "response_cache").get("enable") is True for one in serving),
        rate_limiter=any("rate_limiter" in one for each in serving for one in each.get("instance_group") or ()),
        decoupled=any(_inside(one, "model_transaction_policy").get("decoupled") is True for one in serving),
        vcpus=manifest.target.vcpus,
        instance=_inside(of_target, "hardware").get("instance"),
    )


def _read(path: Path) -> Shipped:
    if not path.exists():
        raise ArchiveError(f"{path}: no such file or folder", mend="name an archive that tritonsmith built")
    beside = manifest_path(path)
    manifest = read_manifest(beside)
    if manifest.archive.file != path.absolute().name:
        raise ArchiveError(
            f"{beside}: is the manifest of {manifest.archive.file}", mend="give the archive its name back"
        )
    return Shipped(path.absolute(), manifest, facts_of(manifest))


def _check_proof(one: Shipped, *, unverified: bool) -> None:
    status, reasons = one.facts.status, "; ".join(one.manifest.measured.reasons)
    because = f": {reasons}" if reasons else ""
    if status == "failed":
        raise GateError(f"{one.path}: failed its verification{because}", mend="mend the recipe and build it again")
    if status != PASSED and not unverified:
        raise UnverifiedError(
            f"{one.path}: is {status}{because}",
            mend="run `tritonsmith verify` where it can be proven; or hand it off as it is, with --unverified",
        )


def _check_content(one: Shipped) -> None:
    facts = one.manifest.archive
    try:
        if facts.is_folder:
            files = {name: File(one.path / name, file.sha256, file.size) for name, file in facts.members.items()}
            changed = differences(one.path, files)
            same, what = not changed, f": {'; '.join(changed[:5])}"
        else:
            same, what = one.path.is_file() and digest_file(one.path) == facts.sha256, ""
    except OSError as error:
        raise disk_error(one.path, error) from error
    if not same:
        raise DamagedError(
            one.path, f"{one.path}: is not what its manifest says{what}", mend="fetch it again, or build it again"
        )


def _servings(view: Mapping[str, Json]) -> list[dict[str, Json]]:
    """The sections ``serving`` of a recipe: of the whole, and of each of its models."""
    models = _inside(view, "models")
    return [_inside(view, "serving"), *(_inside(models, name, "serving") for name in models)]


def _inside(value: Mapping[str, Json], *path: str) -> dict[str, Json]:
    """The mapping at a path; an empty one where there is none."""
    found: Json = value
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _number(value: Json) -> int | None:
    return value if isinstance(value, int) else None
