"""The source stage: what the recipe says of the model → its files, resolved, checked and hashed.

Weights in safetensors are not copied: a file's path is where it lies, behind every symlink.
"""

from __future__ import annotations

import importlib.util
import logging
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar, Final

from builder.artifacts import Source
from builder.core.digest import describe_file, describe_folder
from builder.errors import InternalError, ModelError
from builder.export import random_source
from builder.export.licence import CARD, LONGEST, licence_of_card
from builder.export.model_files import digests, in_folder
from builder.export.source_files import PICKLE, PICKLE_INDEX, LocalFolder, collect
from builder.export.versions import versions
from builder.recipe.source import (
    AnySource,
    Architecture,
    ArchitectureSource,
    HubSource,
    PackageFolder,
    PackageSource,
    PathSource,
)
from builder.settings import settings
from builder.tools import hf, pickled_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from builder.artifacts import File, Json, Tree
    from builder.export.source_files import Origin

log = logging.getLogger(__name__)

_PLAIN_FOLDER: Final = "local folder"  # its name is the user's own matter, and the archive is to be the same for all
_SNAPSHOT: Final = re.compile(r"models--(.+)/snapshots/([0-9a-f]{40})")


@dataclass(frozen=True)
class Resolve:
    """Finds the files of a model.

    Args:
        task: the recipe's: a model with random weights gets the head for it.
        describe: hashes a file of the user's; no part of the key. A store's ``ingest`` copies it in the same pass.
    """

    task: str
    describe: Callable[[Path], File] = describe_file
    name: ClassVar[str] = "source"
    version: ClassVar[int] = 3

    def fingerprint(self, inputs: AnySource) -> Mapping[str, Json]:
        facts: dict[str, Json] = {"kind": inputs.kind, "allow": inputs.allow.model_dump()}
        match inputs:
            case HubSource():
                facts |= {"hub": inputs.hub, "revision": inputs.revision}  # a commit is a digest of its content
                return {**facts, **(_conversion_facts() if inputs.allow_pickle else {})}
            case ArchitectureSource(architecture=architecture):
                return {**facts, "task": self.task, **self._architecture_facts(architecture)}
        files = _collect(self._local(inputs), inputs)
        model_id, revision = _identity(inputs)
        facts |= {"model_id": model_id, "revision": revision, "files": digests(files, files)}
        return {**facts, **(_conversion_facts() if _pickled(files) else {})}

    def requires(self, inputs: AnySource) -> None:
        match inputs:
            case PathSource() | PackageSource():
                _folder(inputs)
            case ArchitectureSource(architecture=architecture):
                random_source.check(architecture, _named_folder(architecture))

    def run(self, inputs: AnySource, out: Path) -> Source:
        files = _collect(self._origin(inputs, out), inputs)
        for folder in _pickled(files):
            files = _converted(files, folder, out)
        model_id, revision = _identity(inputs)
        return Source(
            kind=inputs.kind,
            model_id=model_id,
            revision=revision,
            licence=licence_of_card(files.get(CARD)) or _licence_of_package(inputs),
            files=dict(sorted(files.items())),
            remote_code=inputs.trust_remote_code,
        )

    def ensures(self, inputs: AnySource, output: Source) -> None:
        lost = [name for name, file in output.files.items() if file.path.is_symlink() or not file.path.is_file()]
        if lost:
            raise InternalError(f"{inputs.kind}: not resolved: {', '.join(lost)}")

    def _origin(self, inputs: AnySource, out: Path) -> Origin:
        match inputs:
            case HubSource():
                from builder.tools.hub import Hub

                now = settings()
                return Hub(now.hub_endpoint, now.hub_token, now.cache / "hub").open(inputs.hub, inputs.revision)
            case ArchitectureSource(architecture=architecture):
                config = random_source.config(architecture)
                log.info("making a %s with random weights", config["model_type"])
                made = out / "model"
                made.mkdir()
                with random_source.inputs_folder(architecture, _named_folder(architecture), below=out) as folder:
                    hf.make_random_model(config, architecture.seed, folder, self.task, made)
                return LocalFolder(made, resolve=False)
        return self._local(inputs)

    def _architecture_facts(self, architecture: Architecture) -> dict[str, Json]:
        return random_source.facts(architecture, _named_folder(architecture), self.describe)

    def _local(self, inputs: PathSource | PackageSource) -> LocalFolder:
        return LocalFolder(_folder(inputs), describe=self.describe)


def _collect(origin: Origin, inputs: AnySource) -> dict[str, File]:
    return collect(origin, allow_pickle=inputs.allow_pickle, allow_code=inputs.trust_remote_code)


def _identity(source: AnySource) -> tuple[str, str | None]:
    """What a human calls the model, and its commit or version."""
    match source:
        case HubSource():
            return source.hub, source.revision
        case PackageSource():
            return in_folder(source.package, source.path), _version(source.package)
        case ArchitectureSource(architecture=architecture):
            kind = random_source.config(architecture).get("model_type", "model")
            return f"{kind} with random weights (seed {architecture.seed})", None
    path = source.path.resolve()
    if found := _SNAPSHOT.search(path.as_posix()):
        return found[1].replace("--", "/"), found[2]
    return _PLAIN_FOLDER, None


def _folder(source: PathSource | PackageSource | PackageFolder) -> Path:
    """The folder that a source names.

    Raises:
        ModelError: it is not there.
    """
    if isinstance(source, PathSource):
        if not source.path.is_dir():
            words = "a file, not a folder" if source.path.exists() else "no such folder"
            raise ModelError(f"source.path: {source.path}: {words}", mend="name the folder that holds config.json")
        return source.path
    folder = _package(source.package) / source.path
    if not folder.is_dir():
        raise ModelError(
            f"source.path: the package {source.package} has no folder {source.path!r} (in {folder.parent})",
            mend="name a folder of the package as it is installed here",
        )
    return folder


def _named_folder(architecture: Architecture) -> Path | None:
    """The folder of an architecture's tokenizer."""
    named = architecture.tokenizer
    return _folder(named) if isinstance(named, PackageFolder) else named


def _package(name: str) -> Path:
    """Where a top-level package is installed. It is not imported: that would run its code."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise ModelError(
            f"source.package: no package {name!r} is installed for this Python",
            mend=f"install it here, for example with pip install {name.replace('_', '-')}",
        )
    places = [Path(place) for place in spec.submodule_search_locations or ()]
    if not places:
        raise ModelError(
            f"source.package: {name!r} is a single module ({spec.origin}), not a package with a folder",
            mend="name a package that carries a model, or use path: with a folder",
        )
    return next((place for place in places if place.is_dir()), places[0])


def _distribution(package: str) -> metadata.Distribution | None:
    """The distribution that installed a package."""
    try:
        likely = metadata.distribution(package.replace("_", "-"))
    except metadata.PackageNotFoundError:
        likely = None
    if likely and any(PurePosixPath(file).parts[:1] == (package,) for file in likely.files or ()):
        return likely
    owners = metadata.packages_distributions().get(package)  # reads the records of everything that is installed
    return metadata.distribution(owners[0]) if owners else None


def _version(package: str) -> str | None:
    distribution = _distribution(package)
    return distribution.version if distribution else None


def _conversion_facts() -> dict[str, Json]:
    return {"versions": versions("torch", "safetensors")}


def _pickled(files: Iterable[str]) -> list[str]:
    """Folders of the model whose weights are pickled."""
    found = [PurePosixPath(name) for name in files if PurePosixPath(name).name in {PICKLE, PICKLE_INDEX}]
    return ["" if path.parent == PurePosixPath() else path.parent.as_posix() for path in found]


def _converted(files: Tree, folder: str, out: Path) -> dict[str, File]:
    """The files with the pickled weights of one folder replaced by safetensors."""
    pickles = [
        name
        for name in sorted(files)
        if PurePosixPath(name).match("*.bin") and in_folder(folder, PurePosixPath(name).name) == name
    ]
    made = out / "converted" / folder
    made.mkdir(parents=True)
    pickled_weights.convert([files[name].path for name in pickles], made)
    rest = {name: file for name, file in files.items() if name not in {*pickles, in_folder(folder, PICKLE_INDEX)}}
    return rest | {in_folder(folder, name): file for name, file in describe_folder(made).items()}


def _licence_of_package(source: AnySource) -> str | None:
    distribution = _distribution(source.package) if isinstance(source, PackageSource) else None
    if distribution is None:
        return None
    facts = distribution.metadata.json
    stated = str(facts.get("license_expression") or facts.get("license") or "").strip()
    return stated.splitlines()[0][:LONGEST] if stated else None
