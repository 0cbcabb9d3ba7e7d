"""Wheels for the machine that will serve: fetched once with pip, kept in the cache, unpacked into model folders."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from builder.artifacts import File
from builder.errors import InternalError, MachineError, MissingError, UserError
from builder.tools import installed
from builder.tools.archive_names import check_name
from builder.tools.atomic import disk_error, publish

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterable, Sequence

    from builder.tools.pip import Progress

log = logging.getLogger(__name__)

PLATFORMS: Final = ("manylinux_2_17_x86_64", "manylinux2014_x86_64")
"""What all x86-64 Triton containers can run (glibc 2.17 and later): two names for the same."""

PLATFORMS_OF_CODE: Final = (
    *(f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 26, 24, 17)),
    *("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"),
)
"""The same for packages of one minor version of Python (glibc 2.28 and later): what current wheels are made for."""

_FILE_NAME: Final = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)-cp3(?P<minor>\d+)-abi3-(?P<platform>.+)\.whl")
_OF_ONE_PYTHON: Final = re.compile(r"-cp3(?P<minor>\d+)-cp3(?P=minor)-")
_RECORD: Final = "wheels.json"
_UNUSED: Final = (".pyi", ".pyc")
_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """A wheel with a stable ABI (abi3): one file for its Python and all later ones."""

    project: str
    version: str
    python: tuple[int, int]  # of the machine that will serve

    @property
    def requirement(self) -> str:
        return f"{self.project}=={self.version}"

    def fits(self, file_name: str) -> bool:
        """Whether the wheel of that name is this one, and runs on the machine that will serve."""
        match = _FILE_NAME.fullmatch(file_name)
        return (
            match is not None
            and (match["name"], match["version"]) == (self.project, self.version)
            and int(match["minor"]) <= self.python[1]
            and bool(set(match["platform"].split(".")) & set(PLATFORMS))
        )


def needed_python(file_names: Iterable[str]) -> tuple[int, int] | None:
    """The minor version of Python that wheels of these names run on alone; None: on any."""
    for match in map(_OF_ONE_PYTHON.search, file_names):
        if match:
            return 3, int(match["minor"])
    return None


def installed_version(project: str) -> str:
    """The version of a project in this environment: the one that the build was tested with.

    Raises:
        InternalError: it is not installed.
    """
    if (found := installed.version(project)) is None:
        raise InternalError(f"the package {project} is not installed")
    return found


def fetch(wanted: Wanted, cache: Path, *, progress: Progress | None = None) -> File:
    """The wheel, from the cache or with pip.

    In the cache each wheel lies in a folder of its own that names its sha256: a file that no longer has it is fetched
    again.

    Args:
        wanted: which wheel.
        cache: the user's cache folder.
        progress: told of the download.

    Raises:
        NetworkError: no index could be reached.
        MachineError: there is no such wheel for the serving machine, pip failed, or the disk is full.
    """
    wheels = cache / "wheels"
    for path in sorted(wheels.glob("[!.]*/*.whl")):
        if wanted.fits(path.name):
            file = _describe(path)
            if file.sha256 == path.parent.name:
                return file
            log.warning("%s: damaged, fetching it again", path)
            shutil.rmtree(path.parent, ignore_errors=True)
    return _download(wanted, wheels, progress)


def fetch_all(
    requirements: Sequence[str], python: tuple[int, int], cache: Path, *, progress: Progress | None = None
) -> tuple[File, ...]:
    """The wheels of packages and of all that these need, for the machine that will serve; sorted by name.

    They stay in the cache together, under a name that follows from what was asked.

    Args:
        requirements: ``name==version`` each; whatever else is needed has to be among them.
        python: minor version of the Python on that machine.
        cache: the user's cache folder.
        progress: told of the downloads.

    Raises:
        UserError: there is no such package, version or wheel for the serving machine; or a package needs another one
            that is not asked for: the message names it with its version.
        NetworkError: no index could be reached.
        MachineError: pip failed, or the disk is full.
    """
    asked = [sorted(map(str.lower, requirements)), list(python), list(PLATFORMS_OF_CODE)]
    folder = cache / "wheel-sets" / hashlib.sha256(json.dumps(asked).encode()).hexdigest()
    if (found := _known(folder)) is not None:
        return found
    log.info("fetching %s for Python %d.%d on Linux x86-64", ", ".join(requirements), *python)
    try:
        with publish(folder) as new:
            if new is not None:
                _download_all(requirements, python, new, progress)
        return _known(folder) or ()
    except OSError as error:
        raise disk_error(folder, error) from error


def _known(folder: Path) -> tuple[File, ...] | None:
    """The wheels of a set that was fetched; None where there is none, or one that is damaged."""
    if not (folder / _RECORD).is_file():
        return None
    stated = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    found = {path.name: _describe(path) for path in sorted(folder.glob("*.whl"))}
    if {name: file.sha256 for name, file in found.items()} == stated:
        return tuple(found.values())
    log.warning("%s: damaged, fetching it again", folder)
    shutil.rmtree(folder, ignore_errors=True)
    return None


def _download_all(
    requirements: Sequence[str], python: tuple[int, int], folder: Path, progress: Progress | None
) -> None:
    from builder.tools import pip

    options = [f"--python-version={python[0]}.{python[1]}", "--implementation=cp"]
    options += [f"--abi={abi}" for abi in (f"cp{python[0]}{python[1]}", "abi3", "none")]
    options += [f"--platform={platform}" for platform in PLATFORMS_OF_CODE]
    try:
        paths = pip.download_all(requirements, folder, options=options, progress=progress)
    except MissingError as error:  # the recipe asks for it
        raise UserError(error.message, mend=error.mend) from error
    asked = {_canonical(requirement) for requirement in requirements}
    pins = ["{}=={}".format(*path.name.split("-")[:2]).replace("_", "-") for path in paths]
    if missing := [pin for pin in pins if _canonical(pin) not in asked]:
        raise UserError(
            f"requirements: {', '.join(requirements)} need {', '.join(missing)}, too",
            mend=f"write all of them, so that a later build takes the same: {', '.join(sorted(pins))}",
        )
    stated = {path.name: _describe(path).sha256 for path in paths}
    (folder / _RECORD).write_text(json.dumps(stated), encoding="utf-8")


def _canonical(requirement: str) -> str:
    """``name==version`` as all spellings of the name have it in common."""
    name, _, version = requirement.partition("==")
    return f"{re.sub(r'[-_.]+', '-', name.strip()).lower()}=={version.strip()}"


def unpack(wheel: File, folder: Path) -> tuple[str, ...]:
    """Unpacks what a program needs of a wheel: its packages and its licence, no type stubs, no installer's records.

    Args:
        wheel: what :func:`fetch` returned.
        folder: where it goes; put on ``sys.path`` by whoever imports from it.

    Returns:
        the relative POSIX paths of the files, sorted.

    Raises:
        MachineError: the wheel is damaged, or the disk is full.
    """
    import zipfile

    try:
        with zipfile.ZipFile(wheel.path) as archive:
            members = [info.filename for info in archive.infolist() if not info.is_dir()]
            names = sorted(name for name in members if _is_needed(name))
            for name in names:
                _extract(archive, name, folder)
    except zipfile.BadZipFile as error:
        raise MachineError(f"{wheel.path}: is no wheel: {error}", mend=f"remove {wheel.path.parent}") from error
    return tuple(names)


def _extract(archive: zipfile.ZipFile, name: str, folder: Path) -> None:
    check_name(name, place=str(archive.filename))
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(name) as source, target.open("xb") as stream:
        shutil.copyfileobj(source, stream, _BLOCK_BYTES)


def _is_needed(name: str) -> bool:
    path = PurePosixPath(name)
    if path.parts[0].endswith(".dist-info"):
        return path.name == "METADATA" or "licenses" in path.parts or path.name.upper().startswith("LICENSE")
    return path.suffix not in _UNUSED and "__pycache__" not in path.parts


def _download(wanted: Wanted, wheels: Path, progress: Progress | None) -> File:
    log.info("fetching the wheel of %s for Python %d.%d on Linux x86-64", wanted.requirement, *wanted.python)
    try:
        wheels.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=wheels, prefix=".download-") as temporary:
            path = _ask_pip(wanted, Path(temporary), progress)
            file = _describe(path)
            with publish(wheels / file.sha256) as folder:
                if folder is not None:
                    path.rename(folder / path.name)
            return replace(file, path=wheels.absolute() / file.sha256 / path.name)
    except OSError as error:
        raise disk_error(wheels, error) from error


def _ask_pip(wanted: Wanted, folder: Path, progress: Progress | None) -> Path:
    from builder.tools import pip

    options = [f"--python-version={wanted.python[0]}.{wanted.python[1]}", "--implementation=cp", "--abi=abi3"]
    options += [f"--platform={platform}" for platform in PLATFORMS]
    try:
        return pip.download(wanted.requirement, folder, options=options, progress=progress)
    except MissingError as error:
        # pip's own advice is about this machine; the wheel is for another.
        raise MachineError(
            error.message,
            mend=f"install a version of {wanted.project} that has an abi3 wheel for Python "
            f"{wanted.python[0]}.{wanted.python[1]} on Linux x86-64: the installed version is the one that is shipped",
        ) from error


def _describe(path: Path) -> File:
    with path.open("rb") as stream:
        return File(path.absolute(), hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size)
