"""What a model can be asked to do, and how close its answers must come to the Hugging Face model's."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import Json


NEVER, ALLOWED, REQUIRED = "never", "allowed", "required"
TEXT, IMAGE = "text", "image"


@dataclass(frozen=True, slots=True)
class Task:
    """A task: the names of its output tensors, and by which figures its answers are compared."""

    name: str
    outputs: tuple[str, ...]  # names of the output tensors that a model of this task may have
    metrics: tuple[str, ...]  # ways to compare; which one applies is read from the model
    pairs: str = NEVER  # whether a request holds a second text: never | allowed | required
    truncation: str = "longest_first"  # what is cut of a pair that is too long: longest_first | only_second
    per_token: bool = False  # whether the outputs have an axis of tokens: [batch, sequence, …]
    takes: str = TEXT  # what a request holds: text | image

    @property
    def takes_pairs(self) -> bool:
        """Whether a request may hold a second text."""
        return self.pairs != NEVER


_LABEL_METRICS: Final = ("single-label", "multi-label", "regression")

_ALL: Final = (
    Task("sentence-embedding", outputs=("EMBEDDING",), metrics=("cosine",)),
    Task(
        "text-classification",
        outputs=("LOGITS", "PROBABILITIES"),
        metrics=_LABEL_METRICS,
        pairs=ALLOWED,
    ),
    Task(
        "question-answering",  # TEXT is the question, TEXT_PAIR the context
        outputs=("START_LOGITS", "END_LOGITS"),
        metrics=("logits",),
        pairs=REQUIRED,
        truncation="only_second",
        per_token=True,
    ),
    Task("token-classification", outputs=("LOGITS",), metrics=("logits",), per_token=True),
    Task("text-ranking", outputs=("LOGITS", "SCORE"), metrics=("logits",), pairs=REQUIRED),
    Task("image-classification", outputs=("LOGITS", "PROBABILITIES"), metrics=_LABEL_METRICS, takes=IMAGE),
)

TASKS: Final[Mapping[str, Task]] = MappingProxyType({task.name: task for task in _ALL})
"""Task name → task."""

PIPELINE: Final = "pipeline"
"""The metric of pipelines of named steps."""


def complete_inputs(task: Json, inputs: Json) -> Json:
    """The section ``inputs`` as written, with what a task leaves no choice in: whether a request holds two texts."""
    known = TASKS.get(task) if isinstance(task, str) else None
    if known is None or known.pairs != REQUIRED or not isinstance(inputs, dict | None):
        return inputs
    return {"text_pair": True, **(inputs or {})}


_LABELS: Final = {"label_agreement": 1.0, "max_probability_difference": 1e-4}

_TOLERANCES: Final[Mapping[tuple[str, str], Mapping[str, float]]] = MappingProxyType(
    {
        ("cosine", "fp32"): {"cosine": 0.999999},
        ("single-label", "fp32"): _LABELS,
        ("multi-label", "fp32"): _LABELS,
        ("regression", "fp32"): {"max_difference": 1e-4},
        ("logits", "fp32"): {"max_difference": 1e-4},
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
