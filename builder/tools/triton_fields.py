"""Which fields of Triton's ModelConfig which release knows: dated facts, taken down on 2026-11-20.

Source: ``protobuf/model_config.proto`` on the release branches ``r21.05`` … ``r26.07`` of
github.com/triton-inference-server/common, compared branch by branch. Seen on a real server: 2.51 (24.10) refuses
``model_metrics`` and ``max_inflight_requests``. What is not listed is older than 22.05 or as old as the format.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

FIRST_RELEASE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "DataType.TYPE_BF16": "22.05",
        "ModelWarmup.count": "22.07",
        "ModelEnsembling.Step.model_namespace": "23.03",
        "ModelSequenceBatching.StrategyOldest.preserve_ordering": "23.08",
        "ModelSequenceBatching.State.use_growable_memory": "23.11",
        "ModelSequenceBatching.State.use_same_buffer_for_input_output": "23.11",
        "ModelSequenceBatching.iterative_sequence": "23.11",
        "ModelConfig.runtime": "24.01",
        "ModelInput.is_non_linear_format_io": "24.08",
        "ModelOutput.is_non_linear_format_io": "24.08",
        "ModelConfig.model_metrics": "24.11",
        "ModelEnsembling.max_inflight_requests": "25.11",
    }
)
"""``Message.field`` or ``Enum.VALUE`` → the first release, ``YY.MM``, whose server reads it."""


def knows(release: str, name: str) -> bool:
    """Whether the server of ``release`` (``25.09``) reads a field or enum value (``ModelConfig.runtime``)."""
    return FIRST_RELEASE.get(name, "") <= release
