"""What the rules know besides the config."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from builder.artifacts import Json
    from builder.config.engines import EngineFacts

Keys: TypeAlias = "tuple[str | int, ...]"
"""Keys and indexes from the root of a ModelConfig to a value."""

Problem: TypeAlias = "tuple[Keys, str]"
"""What is wrong: where, and a sentence."""

Rule: TypeAlias = "Callable[[Mapping[str, Json], Host], Iterator[Problem]]"


_OF_PLATFORM: Final = {"tensorrt_plan": "tensorrt", "onnxruntime_onnx": "onnxruntime"}


@dataclass(frozen=True, slots=True)
class Host:
    """The machine that will serve, and the model's files."""

    gpu: bool = False
    versions: tuple[int, ...] = (1,)  # version folders of the repository
    model_files: frozenset[str] | None = None  # names in a version folder; None: not known
    sizes: Mapping[str, int] = field(default_factory=dict)  # bytes of warmup/… and initial_state/… that are shipped
    engine: EngineFacts | None = None  # of a model that is one


def backend(config: Mapping[str, Json]) -> str:
    """The backend of a model; of one that only names its platform, too."""
    return str(config.get("backend") or _OF_PLATFORM.get(config.get("platform", ""), ""))


def tensorrt(config: Mapping[str, Json]) -> bool:
    """Whether the model is served by Triton's own TensorRT backend: a few fields are for that alone."""
    return backend(config) == "tensorrt"
