"""The release folder: requests as JSON, a template, a client, and RELEASE.md, with checksums of all of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.core.codec import from_json, to_json
from builder.core.digest import digest_file, digest_json
from builder.errors import ArchiveError, disk_error
from builder.handoff import cloudformation, letter
from builder.handoff.plan import Plan
from builder.handoff.rule import Folder
from builder.handoff.rules.folder import CLIENT
from builder.package import read_manifest
from builder.package.places import BESIDE, MANIFEST, SEAL, stem
from builder.package.repository import pretty
from builder.package.seal import SIGNATURE
from builder.tools.atomic import publish

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from builder.artifacts import Json
    from builder.handoff.gather import Shipped
    from builder.handoff.rule import Problem
    from builder.package import Manifest

PLAN: Final = "plan.json"
SUMS: Final = "SHA256SUMS"
_CLIENT: Final = Path(__file__).parent / "data" / CLIENT
_ARCHIVES: Final = "archives"
_BESIDE: Final = (MANIFEST, SEAL, *BESIDE.values())
_DIGITS: Final = 12


def write(
    plan: Plan, shipped: Sequence[Shipped], advice: Sequence[Problem], folder: Path, prices: letter.Prices
) -> Path:
    """Writes a release folder, whole or not at all. One that is there already is checked and left.

    Args:
        plan: what is to be sent.
        shipped: the archives; what tells of them is copied, they are not.
        advice: what rules have said.
        folder: where the release folder is made; its name carries the digest of what it holds.
        prices: of instance types.

    Returns:
        The release folder.

    Raises:
        ArchiveError: there is one of that name, and its files are not what was written.
        MachineError: the disk is full or cannot be written.
    """
    data = to_json(plan)
    name = plan.calls[0].name.rpartition("-")[0] or plan.calls[0].name
    beside = [path for one in shipped for path in _beside(one)]
    words = letter.text(plan, advice, prices, sealed=any(path.name.endswith(SIGNATURE) for path in beside))
    copied = {path.name: digest_file(path) for path in (_CLIENT, *beside)}
    out = folder.absolute() / f"{name}-release-{digest_json([data, words, copied])[:_DIGITS]}"
    with publish(out) as temporary:
        if temporary is None:
            check(out)
        else:
            _fill(temporary, plan, data, words)
            _copy(beside, temporary / _ARCHIVES)
            sums = [f"{digest_file(path)}  {path.relative_to(temporary)}\n" for path in _files(temporary)]
            (temporary / SUMS).write_text("".join(sums), encoding="utf-8")
    return out


def read(folder: Path) -> Plan:
    """The plan that a release folder holds.

    Raises:
        ArchiveError: there is none, or its files are not what was written.
    """
    check(folder)
    try:
        return from_json(Plan, _json(folder / PLAN))
    except (ValueError, TypeError, KeyError) as error:
        raise ArchiveError(
            f"{folder / PLAN}: is no plan of a hand-off: {error}", mend="hand the archives off again"
        ) from error


def check(folder: Path) -> None:
    """Checks that a release folder's files are those that were written.

    Raises:
        ArchiveError: one was changed, added or removed.
    """
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        stated = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        found = {str(path.relative_to(folder)): digest_file(path) for path in _files(folder) if path.name != SUMS}
    except FileNotFoundError as error:
        raise ArchiveError(
            f"{folder}: is no release folder: {SUMS} is missing", mend="hand the archives off"
        ) from error
    except OSError as error:
        raise disk_error(folder, error) from error
    changed = sorted(name for name in stated.keys() | found.keys() if stated.get(name) != found.get(name))
    if changed:
        raise ArchiveError(
            f"{folder}: is not what was written: {', '.join(changed[:5])}",
            mend="remove it, and hand the archives off again",
        )


def intended(shipped: Sequence[Shipped]) -> Folder:
    """What a release folder of archives will hold."""
    beside = frozenset(path.name for one in shipped for path in _beside(one))
    return Folder(_CLIENT.read_text(encoding="utf-8"), beside, dict(_members(one.manifest for one in shipped)))


def look(folder: Path) -> Folder:
    """What a release folder holds.

    Raises:
        ArchiveError: a file is missing or damaged.
        MachineError: one cannot be read.
    """
    try:
        beside = sorted(path for path in (folder / _ARCHIVES).iterdir() if path.is_file())
        client = (folder / CLIENT).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError as error:
        raise ArchiveError(f"{error.filename}: no such file or folder", mend="hand the archives off again") from error
    except OSError as error:
        raise disk_error(folder, error) from error
    manifests = [read_manifest(path) for path in beside if path.name.endswith(MANIFEST)]
    return Folder(client, frozenset(path.name for path in beside), dict(_members(manifests)))


def _members(manifests: Iterable[Manifest]) -> Iterator[tuple[str, tuple[str, ...]]]:
    return ((one.archive.file, tuple(one.archive.members)) for one in manifests)


def file_of(plan: Plan, where: str) -> str:
    """The file of a release folder that a problem is in."""
    if where == CLIENT:
        return CLIENT
    operation = where.partition(".")[0]
    if operation == "Environment":
        return "environment.json"
    named = (index for index, call in enumerate(plan.calls, 1) if call.operation == operation)
    found = next(named, None)
    return f"requests/{file_name(found, plan.calls[found - 1].service, operation)}" if found is not None else PLAN


def file_name(index: int, service: str, operation: str) -> str:
    """The name of a request's file, in the order of sending: ``01-sagemaker-CreateModel.json``."""
    return f"{index:02}-{service}-{operation}.json"


def client_facts(plan: Plan) -> dict[str, Json]:
    """What the client needs to know: the endpoint, and the tensors of the first archive."""
    first = plan.archives[0]
    endpoint = next((str(one["EndpointName"]) for one in plan.of("CreateEndpoint")), "")
    invoke: dict[str, Json] = {}
    if plan.multi:
        invoke["TargetModel"] = first.file
    elif parts := list(plan.of("CreateInferenceComponent")):
        invoke["InferenceComponentName"] = parts[0]["InferenceComponentName"]
    elif hosts := [one["ContainerHostname"] for one in plan.containers if "ContainerHostname" in one]:
        modes = {one.get("InferenceExecutionConfig", {}).get("Mode") for one in plan.of("CreateModel")}
        invoke |= {"TargetContainerHostname": hosts[0]} if modes == {"Direct"} else {}
    kinds = {
        one["name"]: str(one["data_type"]).removeprefix("TYPE_").replace("STRING", "BYTES") for one in first.inputs
    }
    outputs = [one["name"] for one in first.outputs]
    return {"region": plan.region, "endpoint": endpoint, "invoke": invoke, "inputs": kinds, "outputs": outputs}


def _fill(folder: Path, plan: Plan, data: Json, words: str) -> None:
    (folder / PLAN).write_bytes(pretty(data))
    (folder / "requests").mkdir()
    for index, call in enumerate(plan.calls, 1):
        path = folder / "requests" / file_name(index, call.service, call.operation)
        path.write_bytes(pretty(call.parameters))
    environments = [one.get("Environment", {}) for one in plan.containers]
    (folder / "environment.json").write_bytes(pretty(environments[0] if len(environments) == 1 else environments))
    (folder / "template.json").write_bytes(pretty(cloudformation.template(plan)))
    (folder / "client.json").write_bytes(pretty(client_facts(plan)))
    shutil.copyfile(_CLIENT, folder / CLIENT)
    (folder / "RELEASE.md").write_text(words, encoding="utf-8")


def _beside(one: Shipped) -> list[Path]:
    """What tells of an archive, and what its answers are held against: all but the archive itself."""
    wanted = tuple(stem(one.path.name) + suffix for suffix in _BESIDE)
    return sorted(path for path in one.path.parent.iterdir() if path.name.startswith(wanted))


def _copy(paths: Sequence[Path], folder: Path) -> None:
    folder.mkdir()
    for path in paths:
        shutil.copyfile(path, folder / path.name)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _json(path: Path) -> Json:
    import json

    return json.loads(path.read_text(encoding="utf-8"))
