"""What the first bytes of a TensorRT plan say, without TensorRT and without a GPU.

The format is NVIDIA's and not documented. Known, and from where:

* ``vtrt``: seen at the begin of every plan that TensorRT-RTX 1.x builds.
* ``ftrt``: begin of TensorRT plans; github.com/pytorch/TensorRT tells an engine from base64 text by it. ``ptrt`` is
  said of older ones; no source confirmed it.
* bytes 24 to 27 of a plan of TensorRT 8.5 or later: major, minor, patch, build of the TensorRT that built it (an answer
  of NVIDIA's in github.com/NVIDIA/TensorRT/issues/3073, used by autowarefoundation/autoware_universe#10320). So it is
  in plans of TensorRT-RTX 1.7.1.116, which says ``01 07 01 74``.

Optimization profiles, tensors and the GPU of a plan cannot be read from its head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HEAD_BYTES: Final = 28

TENSORRT: Final = "tensorrt"
TENSORRT_RTX: Final = "tensorrt_rtx"
UNKNOWN: Final = "unknown"

_MAGIC: Final = {b"ftrt": TENSORRT, b"ptrt": TENSORRT, b"vtrt": TENSORRT_RTX}
_VERSION_AT: Final = 24
_MAJORS: Final = {TENSORRT: range(8, 20), TENSORRT_RTX: range(1, 8)}  # anything else is no version: another format


@dataclass(frozen=True, slots=True)
class Engine:
    """The head of a plan.

    Args:
        kind: TENSORRT, TENSORRT_RTX, or UNKNOWN where the file does not begin as any plan that is known.
        version: of the TensorRT that built it, ``10.13.2``; empty where it is not known.
        magic: the first four bytes.
    """

    kind: str
    version: str
    magic: bytes


def read_engine_head(head: bytes) -> Engine:
    """What the first :data:`HEAD_BYTES` bytes of a file say."""
    magic = head[:4]
    kind = _MAGIC.get(magic, UNKNOWN)
    version = head[_VERSION_AT : _VERSION_AT + 3]
    known = len(version) == 3 and version[0] in _MAJORS.get(kind, ())
    return Engine(kind, ".".join(map(str, version)) if known else "", magic)
