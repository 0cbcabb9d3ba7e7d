"""Does an archive keep a host's contract? What ``tritonsmith verify --contract`` does.

First lint's rules for that host, which need no server: an archive that breaks one is refused with the rule's id, and
not even unpacked. Then the real thing: :mod:`builder.verify.contract`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from builder.admitting import environment, options
from builder.core.store import NAME
from builder.core.workspace import workspace
from builder.errors import EXIT_DONE, EXIT_GATE_FAILED, EXIT_UNVERIFIED, ArchiveError, UserError
from builder.lint import lint
from builder.package import collect, manifest_path, read_manifest
from builder.proving import facts_of
from builder.serving import DEFAULT_RELEASE
from builder.settings import settings
from builder.tools import sagemaker_environment, toolchain
from builder.tools.releases import release
from builder.tools.sagemaker_environment import Wanted
from builder.verify.contract import Check, Proven, Subject, prove_multi_model, prove_single_model
from builder.verify.contract.report import MULTI, SINGLE, Host
from builder.verify.facts import check_files, check_metric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from builder.artifacts import Json
    from builder.lint import Finding

CONTRACTS: Final = (MULTI, SINGLE)


@dataclass(frozen=True, slots=True)
class Contracted:
    """What came of a contract: one of ``proven`` for each archive, and then one for a multi-model front end itself."""

    contract: str
    proven: tuple[Proven, ...]

    @property
    def passed(self) -> bool:
        """Whether every check of every archive passed."""
        return all(one.passed for one in self.proven)

    @property
    def exit_code(self) -> int:
        """1 where a check failed; 4 where answers could not be compared, for nothing lies beside an archive."""
        if not self.passed:
            return EXIT_GATE_FAILED
        compared = all(one.parity for one in self.proven if one.archive is not None)
        return EXIT_DONE if compared else EXIT_UNVERIFIED

    def as_json(self) -> Json:
        """For ``--json``: stable keys."""
        return {
            "contract": self.contract,
            "passed": self.passed,
            "proven": [one.as_json() for one in self.proven],
        }


@dataclass(frozen=True, slots=True)
class _Needs:
    """The server that an archive needs."""

    triton: str = DEFAULT_RELEASE
    python: tuple[int, int] | None = None
    libraries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An archive, what it needs, and the variables of its container."""

    subject: Subject
    needs: _Needs | None  # None: nobody says
    variables: Mapping[str, str]


def prove(contract: str, archives: Sequence[Path], variables: Mapping[str, str] | None = None) -> Contracted:
    """Proves archives on SageMaker's contract.

    Args:
        contract: one of :data:`CONTRACTS`.
        archives: ``.tar.gz`` files, or folders that S3 would hold uncompressed; what lies beside those that were built
            here is what their answers are compared with.
        variables: of the host's container; they come before what a manifest says.

    Raises:
        UserError: a file is missing, or is not what its manifest says; or archives need different servers; or a folder
            is named for a multi-model endpoint.
        BlockedError: a plan needs a GPU that is not here.
        MachineError: the server or this machine failed.
    """
    paths, given = tuple(dict.fromkeys(archives)), variables or {}
    proven = {path: found for path in paths if (found := _refused(contract, path, given))}
    left = [_candidate(contract, path, given) for path in paths if path not in proven]
    served = _multi(left) if contract == MULTI else [_single(one) for one in left]
    by_archive = proven | {one.archive: one for one in served if one.archive is not None}
    front_end = [one for one in served if one.archive is None]
    return Contracted(contract, (*(by_archive[path] for path in paths), *front_end))


def _candidate(contract: str, path: Path, variables: Mapping[str, str]) -> _Candidate:
    container = _container(contract, path, variables)
    if not manifest_path(path).is_file():
        return _Candidate(Subject(path), None, container)
    delivery = collect(path)
    manifest = delivery.manifest
    manifest.check_gpus(path)
    facts = facts_of(delivery)
    check_metric(facts)
    check_files(facts)
    needs = _Needs(facts.triton, facts.python, facts.libraries)
    return _Candidate(Subject(path, facts, manifest.gates.tolerances), needs, container)


def _container(contract: str, path: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """The container's variables: as the manifest beside an archive states them, and what is written over them."""
    if manifest_path(path).is_file():
        return {**environment(contract, read_manifest(manifest_path(path))), **variables}
    return {**(sagemaker_environment.plan(Wanted()) if contract == MULTI else {}), **variables}


def _refused(contract: str, path: Path, variables: Mapping[str, str]) -> Proven | None:
    """The rules of lint that an archive breaks, as checks that failed; None where there are none."""
    if not path.exists():
        raise ArchiveError(f"{path}: no such archive", mend="name an archive, or a folder of the format s3-prefix")
    if path.is_dir() and contract == MULTI:
        raise UserError(
            f"{path}: is a folder; a multi-model endpoint takes archives alone",
            mend=f"build the format {MULTI}, or prove the folder with --contract {SINGLE}",
        )
    container = _container(contract, path, variables)
    known = replace(options(path), host=contract, environment=tuple(container.items()), explicit=True)
    if not (errors := lint(path, known).errors):
        return None
    return Proven(path, tuple(map(_broken, errors)), environment=container)


def _broken(found: Finding) -> Check:
    return Check(f"lint {found.rule}", f"rule {found.rule} holds", f"{found.path}: {found.message}", passed=False)


def _multi(candidates: Sequence[_Candidate]) -> list[Proven]:
    """All archives behind one front end."""
    if not candidates:
        return []
    needs = {one.needs: one.subject.archive.name for one in candidates if one.needs is not None}
    if len(needs) > 1:
        raise UserError(
            f"{' and '.join(needs.values())} need different servers: release, Python or libraries differ",
            mend="prove them one after the other",
        )
    with workspace(settings().cache / NAME) as folder:
        host = _host(next(iter(needs), _Needs()), candidates[0].variables, folder)
        proven = prove_multi_model([one.subject for one in candidates], host)
    return [replace(one, environment=candidates[0].variables) for one in proven]


def _single(candidate: _Candidate) -> Proven:
    with workspace(settings().cache / NAME) as folder:
        host = _host(candidate.needs or _Needs(), candidate.variables, folder)
        return replace(prove_single_model(candidate.subject, host), environment=candidate.variables)


def _host(needs: _Needs, variables: Mapping[str, str], folder: Path) -> Host:
    toolchain.check_machine()
    cache = settings().cache
    onnxruntime = release(needs.triton).onnxruntime
    if onnxruntime is None:
        raise UserError(f"the onnxruntime of release {needs.triton} is not known", mend="build for another release")
    tools = toolchain.install(cache)
    python = toolchain.python_environment(tools, cache, onnxruntime, minor=needs.python, libraries=needs.libraries)
    return Host(tools, python, variables, folder)
