"""What an ONNX file says about its graph, as values: see :mod:`builder.tools.onnx_header`, which reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

DTYPES: Final[Mapping[int, str]] = {
    1: "FP32",
    2: "UINT8",
    3: "INT8",
    4: "UINT16",
    5: "INT16",
    6: "INT32",
    7: "INT64",
    8: "STRING",
    9: "BOOL",
    10: "FP16",
    11: "FP64",
    12: "UINT32",
    13: "UINT64",
    16: "BF16",
}
"""Number of an ONNX element type → Triton's name for it; the others (complex, 8 and 4 bits) have none."""


@dataclass(frozen=True, slots=True)
class GraphTensor:
    """An input or output of a graph.

    Args:
        name: its name.
        dtype: Triton's name, ``FP32``; ``ONNX type 14`` for an element type that Triton has no name for.
        shape: one entry per axis: a size, the name of a symbolic size, or None; None where the file states no shape.
        kind: ``tensor``, or what it is instead: ``sequence``, ``map``, ``sparse tensor``, ``optional``, ``unknown``.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None
    kind: str = "tensor"

    @property
    def dims(self) -> tuple[int, ...] | None:
        """The shape as Triton sees it: dynamic axes are -1."""
        if self.shape is None:
            return None
        return tuple(size if isinstance(size, int) and size >= 0 else -1 for size in self.shape)


@dataclass(frozen=True, slots=True)
class ExternalFile:
    """A file that holds tensors of the graph.

    Args:
        location: its path as the graph states it, relative to the folder of the ONNX file.
        end: bytes that it must at least have: the largest offset + length; 0 where no length is stated.
        tensors: how many tensors lie in it.
    """

    location: str
    end: int
    tensors: int


@dataclass(frozen=True, slots=True)
class OnnxHeader:
    """What an ONNX file says about its graph.

    Args:
        inputs: what a caller must give: graph inputs without those that have an initializer.
        overridable: graph inputs that have an initializer, and so a default.
        outputs: what the graph gives.
        opsets: domain → version; the default domain is ``""``.
        operators: domain → names of the operators in the graph; empty unless asked for.
        functions: domain → names of the operators that the file itself defines; empty unless asked for.
        external: the files that hold tensors, by location; where nodes were read, tensors that are used.
    """

    ir_version: int
    producer: str
    inputs: tuple[GraphTensor, ...]
    overridable: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    opsets: Mapping[str, int]
    operators: Mapping[str, frozenset[str]]
    functions: Mapping[str, frozenset[str]]
    external: tuple[ExternalFile, ...]
