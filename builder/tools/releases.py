"""Triton releases and what their containers hold: dated facts, taken down by hand on 2026-11-20.

Sources, all in github.com/triton-inference-server/server:

* server version, onnxruntime: ``TRITON_VERSION`` and ``build.py`` (``ort_version``) of each release's tag (``v2.61.0``
  …), and the table "ONNX Runtime Versions" of ``docs/introduction/compatibility.md`` (e1db8a6). They agree, but for
  25.08, whose container holds an onnxruntime commit between 1.22 and 1.23.0 (``1.23.0+1d1712fdaf``).
* Python: the ``vllm-python-py3`` rows of the same page (the ``py3`` images have no rows of their own).
* release date: the commit date of the tag.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Final

from builder.errors import UserError


@dataclass(frozen=True, slots=True)
class Release:
    """One Triton release."""

    name: str  # of the container: nvcr.io/nvidia/tritonserver:<name>-py3
    server_version: str
    onnxruntime: str | None  # version of the runtime that NVIDIA's C++ backend links; None: unknown
    python: tuple[int, int] | None  # of the python backend's stub in the container; None: unknown
    date: str  # of the tag in the server repository


RELEASES: Final = (
    Release("24.08", "2.49.0", "1.18.1", (3, 10), "2024-08-26"),
    Release("24.09", "2.50.0", "1.19.2", (3, 10), "2024-09-27"),
    Release("24.10", "2.51.0", "1.19.2", (3, 10), "2024-10-28"),
    Release("24.11", "2.52.0", "1.19.2", (3, 12), "2024-11-25"),
    Release("24.12", "2.53.0", "1.20.1", (3, 12), "2024-12-23"),
    Release("25.01", "2.54.0", "1.20.1", (3, 12), "2025-01-29"),
    Release("25.02", "2.55.0", "1.20.1", (3, 12), "2025-02-26"),
    Release("25.03", "2.56.0", "1.21.0", (3, 12), "2025-04-07"),
    Release("25.04", "2.57.0", "1.21.0", (3, 12), "2025-05-12"),
    Release("25.05", "2.58.0", "1.22.0", (3, 12), "2025-05-28"),
    Release("25.06", "2.59.0", "1.22.0", (3, 12), "2025-06-26"),
    Release("25.07", "2.59.1", "1.22.0", (3, 12), "2025-07-29"),
    Release("25.08", "2.60.0", "1.23.0", (3, 12), "2025-08-25"),
    Release("25.09", "2.61.0", "1.23.0", (3, 12), "2025-10-03"),
    Release("25.10", "2.62.0", "1.23.1", (3, 12), "2025-10-30"),
    Release("25.11", "2.63.0", "1.23.2", (3, 12), "2025-11-25"),
    Release("25.12", "2.64.0", "1.23.2", (3, 12), "2025-12-19"),
    Release("26.01", "2.65.0", "1.23.2", (3, 12), "2026-01-29"),
    Release("26.02", "2.66.0", "1.24.1", (3, 12), "2026-02-24"),
    Release("26.03", "2.67.0", "1.24.2", (3, 12), "2026-03-24"),
    Release("26.04", "2.68.0", "1.24.4", (3, 12), "2026-04-27"),
    Release("26.05", "2.69.0", "1.24.4", (3, 12), "2026-05-27"),
    Release("26.06", "2.70.0", "1.24.4", (3, 12), "2026-06-25"),
    Release("26.07", "2.71.0", "1.27.0", (3, 12), "2026-07-24"),
)


def names() -> tuple[str, ...]:
    """The names of the known releases, oldest first."""
    return tuple(release.name for release in RELEASES)


def release(name: str) -> Release:
    """The release of that name, ``25.09``.

    Raises:
        UserError: no such release is known.
    """
    for known in RELEASES:
        if known.name == name:
            return known
    close = difflib.get_close_matches(name, names(), n=1)
    guess = f"did you mean {close[0]}? " if close else ""
    raise UserError(
        f"triton: {name!r} is not a known Triton release; known: {', '.join(names())}",
        mend=f"{guess}write the release as in the image tag tritonserver:25.09-py3, in quotes",
    )
