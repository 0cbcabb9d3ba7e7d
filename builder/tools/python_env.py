"""The Python environment of the server's stubs: numpy and the onnxruntime of the target's Triton release, no more."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.errors import MachineError
from builder.tools import libpython
from builder.tools.atomic import publish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.tools.pip import Progress
    from builder.tools.toolchain import Toolchain

log = logging.getLogger(__name__)

# The stubs are built with pybind11 2.10, which reads numpy's descriptors as numpy 1 lays them out. With numpy 2 every
# output is empty, and nothing says so. numpy 1.26 is the last 1.x, and has wheels for Python up to 3.12.
NUMPY_VERSION: Final = "1.26.4"
PYTHONS: Final = ((3, 12), (3, 11))
_LAYOUT: Final = 2  # raised when the content of an environment changes
_RECORD: Final = "environment.json"


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that the stubs can run on."""

    executable: Path
    minor: tuple[int, int]
    version: str  # sys.version
    prefix: str  # sys.base_prefix
    libpython: Path | None


def python_environment(
    toolchain: Toolchain,
    cache: Path,
    onnxruntime_version: str,
    *,
    minor: tuple[int, int] | None = None,
    libraries: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> Path:
    """An environment for the Python backend's stubs, made in ``cache`` on first use.

    A stub imports from the environment whose ``bin`` is first on the server's ``PATH``. ``lib-python`` inside it holds
    a link to ``libpython``, which the stub needs on ``LD_LIBRARY_PATH``: a folder of its own, so that nothing else of
    the Python's library folder (conda's libstdc++, say) reaches the server.

    Args:
        toolchain: whose stubs will run in it.
        cache: the user's cache folder.
        onnxruntime_version: exact version, from :mod:`builder.tools.releases`.
        minor: the Python that the steps' own packages are for; None: any.
        libraries: what runs plans, as pip names it with exact versions; it is installed without what that asks for.
        progress: told of the downloads.

    Raises:
        NetworkError: no index could be reached.
        MissingError: none has a wheel that is needed.
        MachineError: no Python here can run the stubs, it has no such onnxruntime, or the disk is full.
    """
    python = find_interpreter(minor)
    toolchain.stub(python.minor)  # refuses a Python that the server has no stub for
    packages = (f"onnxruntime=={onnxruntime_version}", *libraries)
    folder = cache / "environments" / _name(python, onnxruntime_version, libraries)
    with publish(folder) as new:
        if new is not None:
            log.info("making the server's Python environment, once: %s, in %s", ", ".join(packages), folder)
            _make(new, python, packages, progress)
    return folder


def python_minor(environment: Path) -> tuple[int, int]:
    """The minor version of Python that an environment was made with."""
    major, minor = json.loads((environment / _RECORD).read_text(encoding="utf-8"))["minor"]
    return major, minor


def find_interpreter(minor: tuple[int, int] | None = None) -> Interpreter:
    """The Python for the stubs: the running one, or else another one on the ``PATH``.

    Args:
        minor: which one it must be: it is also looked for where pyenv and uv keep theirs, side by side with the running
            one; None: any that the stubs can run on.

    Raises:
        MachineError: there is none of a fitting version with a shared library.
    """
    fitting = PYTHONS if minor is None else tuple(known for known in PYTHONS if known == minor)
    seen = []
    for candidate in [sys.executable, *_others(fitting, beside=minor is not None)]:
        python = _probe(Path(candidate)) if candidate else None
        if python is not None and python.minor in fitting and python.libpython is not None:
            return python
        seen.append(python)
    raise _no_interpreter([python for python in seen if python is not None], minor)


def _others(fitting: tuple[tuple[int, int], ...], *, beside: bool) -> Iterator[Path | str | None]:
    names = [f"python{major}.{minor}" for major, minor in fitting]
    yield from map(shutil.which, names)
    for name in names if beside else ():
        yield from sorted(Path(sys.base_prefix).parent.glob(f"*{name.removeprefix('python')}*/bin/{name}"))


@cache
def _probe(executable: Path) -> Interpreter | None:
    """What an interpreter is, asked once; None where it is none that runs."""
    if executable == Path(sys.executable) and (
        found := libpython.in_folders()
    ):  # no process for what we know ourselves
        return Interpreter(executable, sys.version_info[:2], sys.version, sys.base_prefix, Path(found).resolve())
    from builder.tools.process import run

    done = run([executable, "-I", libpython.__file__], what="python", timeout_seconds=60, check=False)
    if done.returncode != 0:  # a pyenv shim of a version that is not active, say
        return None
    facts = json.loads(done.stdout)
    library = Path(facts["libpython"]) if facts["libpython"] else None
    major, minor = facts["minor"]
    return Interpreter(executable, (major, minor), facts["version"], facts["prefix"], library)


def _no_interpreter(seen: list[Interpreter], minor: tuple[int, int] | None) -> MachineError:
    for python in seen:
        if python.minor in PYTHONS and minor in {None, python.minor}:
            version = f"{python.minor[0]}.{python.minor[1]}"
            return MachineError(
                f"libpython{version}.so.1.0 was not found: Triton's Python backend needs the shared library of Python "
                f"{version}, and the one at {python.prefix} has none",
                mend=f"Debian, Ubuntu: apt install libpython{version}; pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared "
                f"pyenv install {version}; conda: conda create -n triton python={version} (its Pythons have it)",
            )
    if minor is not None:
        wanted = f"{minor[0]}.{minor[1]}"
        return MachineError(
            f"the archive's Python steps hold packages for Python {wanted} alone, and no such Python was found",
            mend=f"install Python {wanted} with its shared library, and have python{wanted} on PATH",
        )
    return MachineError(
        f"Triton's Python backend needs Python 3.11 or 3.12 (it works with numpy 1 only); this is Python "
        f"{sys.version_info.major}.{sys.version_info.minor}, and no other was found on PATH",
        mend="install Python 3.12 with its shared library, and have python3.12 on PATH",
    )


def _name(python: Interpreter, onnxruntime_version: str, libraries: tuple[str, ...]) -> str:
    facts = [_LAYOUT, python.version, python.prefix, str(python.libpython), NUMPY_VERSION, onnxruntime_version]
    content = hashlib.sha256(json.dumps([*facts, *libraries]).encode()).hexdigest()[:12]
    return f"python{python.minor[0]}.{python.minor[1]}-onnxruntime{onnxruntime_version}-{content}"


def _make(folder: Path, python: Interpreter, packages: tuple[str, ...], progress: Progress | None) -> None:
    # A venv can be renamed as long as nobody runs its scripts by their first line: the stubs only import from it.
    from builder.tools.process import run

    run(
        [python.executable, "-m", "venv", "--without-pip", folder],
        what="making the server's Python environment",
        timeout_seconds=120,
    )
    # Without dependencies: onnxruntime needs only numpy at run time (flatbuffers, protobuf and sympy serve its tools).
    from builder.tools import pip

    pip.install([f"numpy=={NUMPY_VERSION}", *packages], folder / "bin/python", progress=progress)
    run(
        [folder / "bin/python", "-I", "-c", "import numpy, onnxruntime; onnxruntime.InferenceSession"],
        what=f"trying {packages[0]}",
        timeout_seconds=120,
    )
    assert python.libpython is not None
    (folder / "lib-python").mkdir()
    (folder / "lib-python" / f"libpython{python.minor[0]}.{python.minor[1]}.so.1.0").symlink_to(python.libpython)
    # The stubs ignore PYTHONDONTWRITEBYTECODE, and nothing may be written into the repository that is served.
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "sitecustomize.py").write_text("import sys\n\nsys.dont_write_bytecode = True\n", encoding="utf-8")
    record = {"minor": python.minor, "numpy": NUMPY_VERSION, "packages": packages}
    (folder / _RECORD).write_text(json.dumps(record), encoding="utf-8")
