"""Triton releases and what their containers hold: dated facts, taken down by hand on 2026-11-20.

Sources, all in github.com/triton-inference-server/server:

* server version, onnxruntime: ``TRITON_VERSION`` and ``build.py`` (``ort_version``) of each release's tag (``v2.61.0``
  …), and the table "ONNX Runtime Versions" of ``docs/introduction/compatibility.md`` (e1db8a6). They agree, but for
  25.08, whose container holds an onnxruntime commit between 1.22 and 1.23.0 (``1.23.0+1d1712fdaf``).
* Python: the ``vllm-python-py3`` rows of the same page (the ``py3`` images have no rows of their own).
* release date: the commit date of the tag.
* CUDA and driver: the ``vllm-python-py3`` rows of the same page, which is what is nearest to ``py3``. NVIDIA's release
  notes (docs.nvidia.com/deeplearning/triton-inference-server/release-notes/rel-25-10.html and others) agree where they
  could be read (25.03, 25.10), but say 12.9.1 for 25.06 and 13.0.0 for 25.08. The driver is the one of that CUDA's
  release; by CUDA's rule of minor versions, :func:`least_driver` is enough.
* TensorRT: of the ``py3`` image no page tells but the frameworks support matrix
  (docs.nvidia.com/deeplearning/frameworks/support-matrix), which could not be read; Triton's images hold the TensorRT
  of that matrix (a maintainer in server#6959). 25.09: what an NVIDIA image of that stack holds
  (``NVIDIA_VLLM_VERSION=25.09``, ``TRT_VERSION=10.13.3.9``). 25.12: ``pytorch:25.12-py3`` is said to hold 10.14.
  The ``trtllm`` rows of the compatibility page list another TensorRT, and are no proxy. All others: unknown.
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
    cuda: str | None = None  # toolkit in the container; None: unknown
    driver: str | None = None  # of NVIDIA's, that came with that toolkit; None: unknown
    tensorrt: str | None = None  # of the tensorrt backend, as far as it is known: 10.13.3.9, or 10.14; None: unknown


RELEASES: Final = (
    Release("24.08", "2.49.0", "1.18.1", (3, 10), "2024-08-26", "12.6.0", "560.35.03"),
    Release("24.09", "2.50.0", "1.19.2", (3, 10), "2024-09-27", "12.6.1", "560.35.03"),
    Release("24.10", "2.51.0", "1.19.2", (3, 10), "2024-10-28", "12.6.2", "560.35.03"),
    Release("24.11", "2.52.0", "1.19.2", (3, 12), "2024-11-25", "12.6.3", "560.35.05"),
    Release("24.12", "2.53.0", "1.20.1", (3, 12), "2024-12-23", "12.6.3", "560.35.05"),
    Release("25.01", "2.54.0", "1.20.1", (3, 12), "2025-01-29", "12.8.0", "570.86.10"),
    Release("25.02", "2.55.0", "1.20.1", (3, 12), "2025-02-26", "12.8.0", "570.86.10"),
    Release("25.03", "2.56.0", "1.21.0", (3, 12), "2025-04-07", "12.8.1", "570.124.06"),
    Release("25.04", "2.57.0", "1.21.0", (3, 12), "2025-05-12", "12.9.0", "575.51.02"),
    Release("25.05", "2.58.0", "1.22.0", (3, 12), "2025-05-28", "12.9.0", "575.51.03"),
    Release("25.06", "2.59.0", "1.22.0", (3, 12), "2025-06-26", "12.9.0", "575.51.03"),
    Release("25.07", "2.59.1", "1.22.0", (3, 12), "2025-07-29", "12.9.0", "575.51.03"),
    Release("25.08", "2.60.0", "1.23.0", (3, 12), "2025-08-25", "13.0.1", "580.82.07"),
    Release("25.09", "2.61.0", "1.23.0", (3, 12), "2025-10-03", "13.0.1", "580.82.07", "10.13.3.9"),
    Release("25.10", "2.62.0", "1.23.1", (3, 12), "2025-10-30", "13.0.2", "580.95.05"),
    Release("25.11", "2.63.0", "1.23.2", (3, 12), "2025-11-25", "13.0.2", "580.95.05"),
    Release("25.12", "2.64.0", "1.23.2", (3, 12), "2025-12-19", "13.1.0", "590.44.01", "10.14"),
    Release("26.01", "2.65.0", "1.23.2", (3, 12), "2026-01-29", "13.1.1", "590.48.01"),
    Release("26.02", "2.66.0", "1.24.1", (3, 12), "2026-02-24", "13.1.1", "590.48.01"),
    Release("26.03", "2.67.0", "1.24.2", (3, 12), "2026-03-24", "13.2.0", "595.45.04"),
    Release("26.04", "2.68.0", "1.24.4", (3, 12), "2026-04-27", "13.2.1", "595.58.03"),
    Release("26.05", "2.69.0", "1.24.4", (3, 12), "2026-05-27", "13.2.1", "595.58.03"),
    Release("26.06", "2.70.0", "1.24.4", (3, 12), "2026-06-25", "13.3.0", "610.43.02"),
    Release("26.07", "2.71.0", "1.27.0", (3, 12), "2026-07-24", "13.3.0", "610.43.02"),
)


_LEAST_DRIVERS: Final = {"12": 525, "13": 580}
"""Least driver branch by CUDA's major version: table 3 of docs.nvidia.com/cuda/cuda-toolkit-release-notes."""

_AMIS: Final = (
    ("al2-ami-sagemaker-inference-gpu-2", 535),
    ("al2-ami-sagemaker-inference-gpu-2-1", 535),
    ("al2-ami-sagemaker-inference-gpu-3-1", 550),
    ("al2023-ami-sagemaker-inference-gpu-4-1", 580),
)
"""SageMaker's InferenceAmiVersion → branch of its driver: help texts of ProductionVariant in github.com/boto/botocore,
botocore/data/sagemaker (0e6e2404b, 2026-08-07)."""


def least_driver(one: Release) -> int | None:
    """The least branch of NVIDIA's driver that a release's CUDA runs on; None: unknown."""
    return _LEAST_DRIVERS.get((one.cuda or "").partition(".")[0])


def inference_amis(one: Release) -> tuple[str, ...]:
    """SageMaker's machine images whose driver a release's CUDA runs on; none where its CUDA is unknown."""
    least = least_driver(one)
    return tuple(name for name, driver in _AMIS if least is not None and driver >= least)


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
