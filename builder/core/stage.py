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

    A stage may also have:

    * ``reads(inputs) -> list[File]``: files whose content is hashed before it runs. Default: all that its inputs refer
      to. A stage that only passes files on, or hashes what it reads, names fewer.
    * ``is_final(output) -> bool``: False for an output that is not kept, so that the next build runs the stage again.
    * ``apart: ClassVar[bool]``: True: beside others, it runs in a worker process (:mod:`builder.core.workers`).
    * ``alone: ClassVar[bool]``: True: nothing else may run beside it (it measures time).
    * ``memory(inputs) -> int``: bytes of resident memory that a process needs for it, from above, mapped files
      included; it reads headers at most. Default: see :mod:`builder.core.graph`.
    """

    name: ClassVar[str]
    """Last part of the node id, e.g. ``trace``."""

    version: ClassVar[int]
    """Raised whenever the bytes that the stage writes may change."""

    def fingerprint(self, inputs: InT_contra) -> Mapping[str, Json]:
        """All that can change the output's bytes: options, input digests, versions of the libraries that it uses.

        JSON data. ``versions`` maps distributions to the versions that are installed: whoever runs the stage asserts
        them. It is asked on every build, so it imports none of those libraries.
        """

    def requires(self, inputs: InT_contra) -> None:
        """Checks what must hold before the stage runs; raises a :class:`~builder.errors.UserError` if it does not."""

    def run(self, inputs: InT_contra, out: Path) -> OutT:
        """Does the work. Writes only below ``out``, an empty folder, and returns files there or files of its input."""

    def ensures(self, inputs: InT_contra, output: OutT) -> None:
        """Checks what must hold after the stage ran. If it raises, nothing is published."""
