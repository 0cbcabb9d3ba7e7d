"""The host: what the figures depend on, and where its CUDA libraries lie. No names, no paths in what is recorded."""

from __future__ import annotations

import os
import platform
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import MachineError
from builder.tools import process, toolchain

if TYPE_CHECKING:
    from collections.abc import Sequence

_QUERY = ("name", "driver_version", "memory.total", "compute_cap", "clocks.max.sm", "clocks.max.memory", "power.limit")


def describe() -> dict[str, Any]:
    """The machine as JSON data."""
    return {
        "gpu": _gpu(),
        "cpu": _cpu(),
        "usable_cpus": len(os.sched_getaffinity(0)),
        "linux": platform.release().partition("-")[0],
        "glibc": platform.libc_ver()[1],
        "python": platform.python_version(),
        "tritonserver": toolchain.SERVER_VERSION,
        "perf_analyzer": toolchain.PERF_ANALYZER_VERSION,
    }


def _gpu() -> dict[str, str] | None:
    """What nvidia-smi says of the first GPU; None where there is none."""
    command = ["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader", "--id=0"]
    try:
        done = process.run(command, what="nvidia-smi", timeout_seconds=30, check=False)
    except MachineError:
        return None
    if done.returncode != 0:
        return None
    return dict(zip(_QUERY, (part.strip() for part in done.stdout.split(",")), strict=False))


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def let_libraries_be_found(site: Path | None) -> None:
    """Puts the CUDA libraries that come in Python packages on ``LD_LIBRARY_PATH``, for servers and builders.

    onnxruntime and TensorRT look for cuBLAS, cuDNN and the like where the loader does.
    """
    folders = [site] if site else []
    found = _library_folders([*folders, Path(sysconfig.get_path("purelib"))])
    before = os.environ.get("LD_LIBRARY_PATH", "")
    os.environ["LD_LIBRARY_PATH"] = ":".join([*([before] if before else []), *map(str, found)])


def _library_folders(sites: Sequence[Path]) -> list[Path]:
    patterns = ("nvidia/*/lib", "nvidia/cu*/lib", "tensorrt_libs", "tensorrt_rtx_libs")
    return [folder for site in sites for pattern in patterns for folder in sorted(site.glob(pattern))]
