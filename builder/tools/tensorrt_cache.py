"""Timing caches: how fast each kernel was, so that the next build of the like measures less.

A file for each library version, GPU and driver class (its major version), as NVIDIA says that figures are good for.
Builds side by side read the same file and put what they learnt into it, one after the other; a reader sees a whole file
or none. Nothing depends on it: what cannot be read or written is a warning, and time.
"""

from __future__ import annotations

import hashlib
import logging
import re
from typing import TYPE_CHECKING

from builder.tools.atomic import replacing

if TYPE_CHECKING:
    from pathlib import Path

    import tensorrt as trt

    from builder.tools import hardware

log = logging.getLogger(__name__)


def path_of(folder: Path, library_version: str, gpu: hardware.Gpu) -> Path:
    """The cache's file."""
    name = f"tensorrt-{library_version}-{gpu.name}-driver{gpu.driver.partition('.')[0]}"
    return folder / f"{re.sub(r'[^A-Za-z0-9.]+', '-', name)}.cache"


def use(config: trt.IBuilderConfig, path: Path) -> None:
    """Makes the builder read the file and note what it measures. A damaged file is as none."""
    for content in (_read(path), b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return
        if content:
            log.warning("the timing cache cannot be used, and is made anew: %s", path)
            path.unlink(missing_ok=True)


def publish(config: trt.IBuilderConfig, path: Path) -> dict[str, str | int]:
    """Puts what the builder measured into the file, beside what others have put there meanwhile.

    Returns:
        ``digest`` (sha256) and ``bytes`` of what this build ended with.
    """
    from filelock import FileLock

    mine = config.get_timing_cache()
    content = bytes(mine.serialize())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            kept = _read(path)
            if kept != content:
                merged = config.create_timing_cache(kept)
                if not merged.combine(mine, ignore_mismatch=False):
                    merged = mine
                _write(path, bytes(merged.serialize()))
    except OSError as error:
        log.warning("the timing cache cannot be kept: %s", error)
    return {"digest": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as descriptor, open(descriptor, "wb", closefd=False) as stream:
        stream.write(content)
