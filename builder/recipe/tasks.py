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

NEIGHBOURS: Final = "neighbour_agreement"
"""Tolerance of embeddings in few bits: the least share of samples that keep their nearest neighbour. The parity ledger
of the model holds it; a served archive is held against the others."""


def complete_inputs(task: Json, inputs: Json) -> Json:
    """The section ``inputs`` as written, with what a task leaves no choice in: whether a request holds two texts."""
    known = TASKS.get(task) if isinstance(task, str) else None
    if known is None or known.pairs != REQUIRED or not isinstance(inputs, dict | None):
        return inputs
    return {"text_pair": True, **(inputs or {})}


def _both(labels: Mapping[str, float], precision: str) -> dict[tuple[str, str], Mapping[str, float]]:
    return {("single-label", precision): labels, ("multi-label", precision): labels}


def _values(difference: float, precision: str) -> dict[tuple[str, str], Mapping[str, float]]:
    one = {"max_difference": difference}
    # Of a pipeline's texts as many may differ as of labels: a label is a text there.
    texts = 0.98 if precision == "fp16" else 0.97
    return {
        ("regression", precision): one,
        ("logits", precision): one,
        (PIPELINE, precision): {**one, "text_agreement": texts},
    }


_EXACT: Final = {"label_agreement": 1.0, "max_probability_difference": 1e-4}

# A relative rounding error e after each of n operations makes about e * sqrt(n) in the end, and turns a vector to a
# cosine of 1 - (e^2 * n) / 2. bert-large has n = 300 operations that round; e is 2^-11 in FP16, 2^-8 in BF16.
_TOLERANCES: Final[Mapping[tuple[str, str], Mapping[str, float]]] = MappingProxyType(
    {
        ("cosine", "fp32"): {"cosine": 0.999999},
        ("single-label", "fp32"): _EXACT,
        ("multi-label", "fp32"): _EXACT,
        ("regression", "fp32"): {"max_difference": 1e-4},
        ("logits", "fp32"): {"max_difference": 1e-4},
        (PIPELINE, "fp32"): {"max_difference": 1e-4, "text_agreement": 1.0},
        # 3.6e-5 away from 1 by the estimate, 2.3e-6 seen (MiniLM, worst of 97 texts): between the two and a wide
        # berth of what a mistake does, which is 0.01 and more.
        ("cosine", "fp16"): {"cosine": 0.9999},
        # The estimate is 0.8 % of the largest value. Two of 97 samples may stand so near to a border as to cross it.
        **_both({"label_agreement": 0.98, "max_probability_difference": 0.01}, "fp16"),
        **_values(0.01, "fp16"),
        # 2.3e-3 by the estimate, 1.9e-4 seen; values 6.6 % by the estimate, which holds for the worst case only.
        ("cosine", "bf16"): {"cosine": 0.998},
        **_both({"label_agreement": 0.97, "max_probability_difference": 0.04}, "bf16"),
        **_values(0.05, "bf16"),
        # Each product adds an error of about 1 % (254 steps for a row whose largest value is some 5 times its root
        # mean square). What a search notices are neighbours: 19 of 20 must stay. The cosine, which served archives are
        # compared by, is that of the worst text: 0.996 seen, for texts in scripts that the model hardly knows; a wrong
        # pooling or cut texts give 0.2 and less.
        ("cosine", "int8"): {"cosine": 0.98, NEIGHBOURS: 0.95},
        **_both({"label_agreement": 0.97, "max_probability_difference": 0.05}, "int8"),
        **_values(0.05, "int8"),
        # FP8 (E4M3) rounds to 3 bits: 2.5 % of each value on average, 3.6 % of a product of two, which is 3 to 4 times
        # INT8's error. What users bear does not depend on the format: INT8's limits hold. (MiniLM misses them: 0.92 of
        # neighbours with all products in FP8, 0.96 with ten of 36 in FP16, and gets BF16.)
        ("cosine", "fp8"): {"cosine": 0.98, NEIGHBOURS: 0.95},
        **_both({"label_agreement": 0.97, "max_probability_difference": 0.05}, "fp8"),
        **_values(0.05, "fp8"),
    }
)


def tolerances(metric: str, precision: str, *, tf32: bool = False) -> dict[str, float]:
    """The default tolerances of a metric at a precision.

    Args:
        metric: one of a task's metrics, or :data:`PIPELINE`.
        precision: fp32, fp16, bf16, int8, fp8.
        tf32: FP32 matrix products may be computed in TF32, which rounds what is multiplied to FP16's 10 bits: then
            FP16's tolerances hold.

    Returns:
        ``cosine``, ``label_agreement`` and ``text_agreement`` are the least value that passes (agreement as a share
        from 0 to 1);
        ``max_probability_difference`` and ``max_difference`` the largest absolute difference that passes;
        :data:`NEIGHBOURS` is among those of embeddings in int8 and fp8.

    Raises:
        KeyError: there is no such metric or precision.
    """
    return dict(_TOLERANCES[metric, "fp16" if tf32 and precision == "fp32" else precision])


def tolerance_keys(task: Task | None) -> tuple[str, ...]:
    """The keys that ``verify.parity`` may set for a task; None: for a pipeline of named steps."""
    metrics = task.metrics if task else (PIPELINE,)
    keys = {key: None for (metric, _), values in _TOLERANCES.items() if metric in metrics for key in values}
    return tuple(key for key in keys if key != NEIGHBOURS)
