"""The contract of a stage: ``fingerprint → requires → run → ensures``; :mod:`builder.core.execute` runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.artifacts import Json

InT_contra = TypeVar("InT_contra", contravariant=True)
OutT = TypeVar("OutT")


class Stage(Protocol[InT_contra, OutT]):
    """One step of the pipeline: a typed input → files below ``out`` → a typed output.

    A stage is a frozen dataclass whose fields are its options. It gets artifacts, never other stages' modules.
    """

    name: ClassVar[str]
    """Last part of the node id, e.g. ``trace``."""

    version: ClassVar[int]
    """Raised whenever the bytes that the stage writes may change."""

    def fingerprint(self, inputs: InT_contra) -> Mapping[str, Json]:
        """All that can change the output's bytes: options, input digests, versions of the libraries that it uses."""

    def requires(self, inputs: InT_contra) -> None:
        """Checks what must hold before the stage runs; raises a :class:`~builder.errors.UserError` if it does not."""

    def run(self, inputs: InT_contra, out: Path) -> OutT:
        """Does the work. Writes only below ``out``, an empty folder, and returns files there or files of its input."""

    def ensures(self, inputs: InT_contra, output: OutT) -> None:
        """Checks what must hold after the stage ran. If it raises, nothing is published."""
