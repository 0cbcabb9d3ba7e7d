"""What lint is to assume about the server and the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

AUTO_COMPLETE: Final = "auto-complete"
STRICT: Final = "strict"
MODES: Final = (AUTO_COMPLETE, STRICT)

VERIFIED_RELEASE: Final = "24.10"
"""The release (server 2.51) whose verdicts the load-errors of core, ensembles and Python models were compared with."""

DEFAULT_RELEASE: Final = "25.09"


@dataclass(frozen=True, slots=True)
class Options:
    """What lint is to assume.

    Args:
        mode: ``auto-complete``, as servers start by default, or ``strict`` (``--disable-auto-complete-config``).
        release: the Triton release that is to load it, ``25.09``.
        host: ``""`` for any Triton, ``sagemaker`` or ``sagemaker-mme``.
        environment: variables of the container, as far as they are known.
        gpus: how many GPUs the server's machine has; None where that is not known.
        explicit: the server loads models by name (explicit mode, as on SageMaker), not all that there are.
    """

    mode: str = AUTO_COMPLETE
    release: str = DEFAULT_RELEASE
    host: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    gpus: int | None = None
    explicit: bool = False

    @property
    def strict(self) -> bool:
        """Whether the server leaves configs as they are."""
        return self.mode == STRICT
