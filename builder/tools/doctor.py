"""Facts about this machine that decide whether a build can work, each with its mend."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from builder.errors import TritonsmithError
from builder.tools import toolchain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from builder.artifacts import Json

MINIMUM_DISK_GIB = 5
EXPORT_PACKAGES = ("torch", "transformers", "onnxscript", "onnx_ir", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact. ``level``: ok, note (works, but something is missing), error (a build cannot work)."""

    subject: str
    level: str
    fact: str
    mend: str = ""

    def as_json(self) -> Json:
        return asdict(self)


def examine(cache: Path) -> Sequence[Finding]:
    """Every check, in the order in which a build would trip over it."""
    checks: tuple[Callable[[Path], Finding], ...] = (
        _python, _glibc, _libpython, _disk, _export_packages, _toolchain, _processors, _gpu,
    )  # fmt: skip
    return [check(cache) for check in checks]


def _python(_cache: Path) -> Finding:
    version = platform.python_version()
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding("Python", "ok", version)
    return Finding("Python", "error", f"{version}; 3.11 to 3.13 work", "install tritonsmith with Python 3.11 to 3.13")


def _glibc(_cache: Path) -> Finding:
    libc, version = platform.libc_ver()
    try:
        toolchain.check_glibc(libc, version)
    except TritonsmithError as error:
        return Finding("glibc", "error", error.message, error.mend)
    return Finding("glibc", "ok", version)


def _libpython(_cache: Path) -> Finding:
    try:
        return Finding("libpython", "ok", str(toolchain.find_interpreter().libpython))
    except TritonsmithError as error:
        return Finding("libpython", "error", error.message, error.mend)


def _disk(cache: Path) -> Finding:
    mend = "set TRITONSMITH_CACHE to a folder that you may write"
    try:
        folder = next(parent for parent in (cache, *cache.parents) if parent.exists())
        free_gib = shutil.disk_usage(folder).free / 2**30
    except OSError as error:
        return Finding("disk", "error", f"{cache}: {error.strerror or error}", mend)
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        return Finding("disk", "error", f"{cache} cannot be made: {folder} is no folder that one may write", mend)
    fact = f"{free_gib:.1f} GiB free for {cache}"
    if free_gib >= MINIMUM_DISK_GIB:
        return Finding("disk", "ok", fact)
    mend = "free some space, or set TRITONSMITH_CACHE to a folder on a larger disk"
    return Finding("disk", "note", f"{fact}; a build of a large model may need more", mend)


def _export_packages(_cache: Path) -> Finding:
    missing = [name for name in EXPORT_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        mend = "pip install 'tritonsmith[export]' (verify and serve work without it)"
        return Finding("export libraries", "note", f"not installed: {', '.join(missing)}", mend)
    found = ", ".join(f"{name} {metadata.version(name.replace('_', '-'))}" for name in EXPORT_PACKAGES)
    return Finding("export libraries", "ok", found)


def _toolchain(cache: Path) -> Finding:
    try:
        installed = toolchain.status(cache)
    except TritonsmithError as error:
        return Finding("toolchain", "error", error.message, error.mend)
    if installed is not None:
        return Finding("toolchain", "ok", str(installed.root))
    mend = "nothing to do: the first build fetches it; `tritonsmith toolchain install` does so now"
    return Finding("toolchain", "note", "not installed yet", mend)


def _processors(_cache: Path) -> Finding:
    count = len(os.sched_getaffinity(0))
    return Finding("processors", "ok", f"{count} usable")


def _gpu(_cache: Path) -> Finding:
    found = shutil.which("nvidia-smi")
    if found:
        return Finding("GPU", "ok", f"driver tools at {found}")
    return Finding("GPU", "note", "none seen: CPU targets are built, served and measured here")
