"""Reading a tritonserver's log for people."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_LINES_SHOWN = 25
_BYTES_READ = 64 << 10  # from the end: a server that complains without pause has written gigabytes
_STAMP = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ \d+ ([\w.]+:\d+\] )?")  # how a line of Triton's log begins
_NOISE = ("CudaDriverHelper has not been initialized", "Failed to initialize NVML")  # no GPU here, which is no error
_PORT_TAKEN = ("already in use", "failed to start HTTP service", "failed to start GRPC service", "Failed to bind")


def reasons(path: Path) -> str:
    """The lines that say why the server or a model did not start, each once; the last lines where none says so."""
    texts = list(dict.fromkeys(text for text in _errors(_lines(path)) if not any(noise in text for noise in _NOISE)))
    # A model's reason comes once from each instance and once for the model: the last is enough.
    if any("failed to load '" in text for text in texts):
        texts = [text for text in texts if "Failed to create instance" not in text]
    return _show([line for text in texts for line in text.splitlines() if line.strip()]) if texts else tail(path)


def tail(path: Path) -> str:
    """The last lines of the log, without the server's tables."""
    return _show([line for line in _lines(path) if line.strip() and not line.startswith(("+-", "| "))])


def lost_port(path: Path) -> bool:
    """Whether the server did not start because a port was taken."""
    return any(sign in text for text in _errors(_lines(path)) for sign in _PORT_TAKEN)


def _lines(path: Path) -> list[str]:
    """The log's last whole lines."""
    with path.open("rb") as stream:
        skipped = max(stream.seek(0, os.SEEK_END) - _BYTES_READ, 0)
        stream.seek(skipped)
        lines = stream.read(_BYTES_READ).decode(errors="replace").splitlines()
    return lines[1:] if skipped and len(lines) > 1 else lines


def _errors(lines: Sequence[str]) -> Iterator[str]:
    """The messages at error level, without stamps and quotes, with real newlines; and what libraries wrote."""
    for line in lines:
        stamp = _STAMP.match(line)
        if stamp and stamp[1] in "EF":
            yield line[stamp.end() :].strip('"').replace("\\n", "\n").replace('\\"', '"').strip()
        elif line.startswith("error: ") or "libprotobuf ERROR" in line:
            yield line.replace("\\n", "\n")


def _show(lines: Sequence[str]) -> str:
    return "".join(f"\n  | {line}" for line in lines[-_LINES_SHOWN:])
