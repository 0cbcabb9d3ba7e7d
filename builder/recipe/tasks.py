"""What a model can be asked to do, and how close its answers must come to the Hugging Face model's."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Task:
    """A task: the names of its output tensors, and by which figures its answers are compared."""

    name: str
    outputs: tuple[str, ...]  # names of the output tensors that a model of this task may have
    metrics: tuple[str, ...]  # ways to compare; which one applies is read from the model
    takes_pairs: bool  # whether a request may hold a second text


_ALL: Final = (
    Task("sentence-embedding", outputs=("EMBEDDING",), metrics=("cosine",), takes_pairs=False),
    Task(
        "text-classification",
        outputs=("LOGITS", "PROBABILITIES"),
        metrics=("single-label", "multi-label", "regression"),
        takes_pairs=True,
    ),
)

TASKS: Final[Mapping[str, Task]] = MappingProxyType({task.name: task for task in _ALL})
"""Task name → task."""

PIPELINE: Final = "pipeline"
"""The metric of pipelines of named steps."""

_LABELS: Final = {"label_agreement": 1.0, "max_probability_difference": 1e-4}

_TOLERANCES: Final[Mapping[tuple[str, str], Mapping[str, float]]] = MappingProxyType(
    {
        ("cosine", "fp32"): {"cosine": 0.999999},
        ("single-label", "fp32"): _LABELS,
        ("multi-label", "fp32"): _LABELS,
        ("regression", "fp32"): {"max_difference": 1e-4},
        (PIPELINE, "fp32"): {"max_difference": 1e-4, "text_agreement": 1.0},
    }
)


def tolerances(metric: str, precision: str) -> dict[str, float]:
    """The default tolerances of a metric at a precision.

    Returns:
        ``cosine``, ``label_agreement`` and ``text_agreement`` are the least value that passes (agreement as a share
        from 0 to 1);
        ``max_probability_difference`` and ``max_difference`` the largest absolute difference that passes.

    Raises:
        KeyError: there is no such metric, or the precision is not reached yet.
    """
    return dict(_TOLERANCES[metric, precision])


def tolerance_keys(task: Task | None) -> tuple[str, ...]:
    """The keys that ``verify.parity`` may set for a task; None: for a pipeline of named steps."""
    metrics = task.metrics if task else (PIPELINE,)
    keys = {key: None for (metric, _), values in _TOLERANCES.items() if metric in metrics for key in values}
    return tuple(keys)
