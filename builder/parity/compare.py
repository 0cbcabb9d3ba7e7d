"""Parity: how far the served answers are from the Hugging Face model's. Figures; :mod:`~builder.verify.judge` judges.

| metric | figures (which of them have a tolerance is in :data:`CRITERIA`) |
| --- | --- |
| ``cosine`` | per sample, the cosine of the two vectors; and by how much their lengths differ, relative |
| ``single-label`` | share of samples with the same first label; largest difference of a probability; of a logit |
| ``multi-label`` | share of (sample, label) decisions at 0.5 that are the same; the same differences |
| ``regression`` | largest difference of a value, relative to the largest expected value |
| ``logits`` | the same, of all outputs; of outputs with an axis of tokens, at each sample's own tokens |
| ``pipeline`` | largest difference of a number; share of texts that are the same (:mod:`~builder.parity.texts`) |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.artifacts import LENGTHS
from builder.errors import InternalError
from builder.parity.texts import compare as texts_compared
from builder.parity.tokens import own_tokens
from builder.recipe.tasks import PIPELINE

if TYPE_CHECKING:
    import numpy as np

    from builder.artifacts import Json

Answers = Mapping[str, "np.ndarray"]
"""Output name → array, [samples, …]; texts are of dtype object: ``bytes``."""

_THRESHOLD: Final = 0.5  # a label of a multi-label classifier is given at this probability


@dataclass(frozen=True, slots=True)
class Worst:
    """The sample that is farthest from what was expected."""

    sample: int  # index into the samples
    value: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Why answers cannot be compared at all.

    missing-output, wrong-shape, wrong-type, not-finite, request-refused; harmed: by another client's bad request.
    """

    name: str
    what: str
    sample: int | None = None

    def as_json(self) -> dict[str, Json]:
        """For the record."""
        return {"name": self.name, "what": self.what, "sample": self.sample}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Figures by name with the worst sample of each; or failures, and then no figures."""

    figures: dict[str, float]
    worst: dict[str, Worst]
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class Criterion:
    """How a figure is judged.

    ``tolerance`` names the tolerance that it is held against. Where ``derive`` is given, the limit is not that
    tolerance itself but follows from it.
    """

    figure: str
    tolerance: str
    at_least: bool
    derive: Callable[[float], float] | None = None

    def limit(self, tolerances: Mapping[str, float]) -> float:
        """The value that the figure must reach, or must not exceed."""
        value = tolerances[self.tolerance]
        return value if self.derive is None else self.derive(value)

    def holds(self, figures: Mapping[str, float], tolerances: Mapping[str, float]) -> bool:
        """Whether the figure is within its limit; a figure that is missing or NaN is not."""
        value, limit = figures.get(self.figure, math.nan), self.limit(tolerances)
        return value >= limit if self.at_least else value <= limit


def _length_limit(cosine: float) -> float:
    # An error that turns a unit vector to this cosine moves its end by sqrt(2 - 2 cos): as much may change its length.
    return math.sqrt(max(0.0, 2 - 2 * cosine))


def _logit_limit(probability_difference: float) -> float:
    # The slope of softmax and sigmoid is at most 1/4, less where a model is sure of itself: 10 leaves room for that,
    # and still tells logits from anything that is not.
    return 10 * probability_difference


_LABELS: Final = (
    Criterion("label_agreement", "label_agreement", at_least=True),
    Criterion("max_probability_difference", "max_probability_difference", at_least=False),
    # Softmax hides whatever is added to all logits: a client that reads LOGITS would see it.
    Criterion("max_logit_difference", "max_probability_difference", at_least=False, derive=_logit_limit),
)

CRITERIA: Final[Mapping[str, tuple[Criterion, ...]]] = {
    "cosine": (
        Criterion("cosine", "cosine", at_least=True),
        # The cosine does not see a length: without this a normalisation that was forgotten would pass.
        Criterion("length_difference", "cosine", at_least=False, derive=_length_limit),
    ),
    "single-label": _LABELS,
    "multi-label": _LABELS,
    "regression": (Criterion("max_difference", "max_difference", at_least=False),),
    "logits": (Criterion("max_difference", "max_difference", at_least=False),),
    PIPELINE: (
        Criterion("max_difference", "max_difference", at_least=False),
        Criterion("text_agreement", "text_agreement", at_least=True),
    ),
}
"""By metric. A criterion without ``derive`` is one that the recipe's ``verify.parity`` names."""


SHARES: Final = frozenset({"label_agreement", "text_agreement"})
"""Figures that are means over the samples, of which a share must agree. All others are that of the worst sample."""

OUTPUTS: Final[Mapping[str, tuple[str, ...]]] = {
    "cosine": ("EMBEDDING",),
    "single-label": ("LOGITS", "PROBABILITIES"),
    "multi-label": ("LOGITS", "PROBABILITIES"),
    "regression": ("LOGITS",),
    "logits": (),
    PIPELINE: (),
}
"""By metric: outputs that must be among the compared ones. For ``logits`` and ``pipeline``, any will do."""


def compare(metric: str, expected: Answers, actual: Answers) -> Comparison:
    """Compares served answers with expected ones.

    Args:
        metric: cosine, single-label, multi-label, regression, logits or pipeline.
        expected: output name → [samples, …], floating point, but for a pipeline; every one of them must be answered.
            With ``lengths``, INT64 [samples], the second axis is one of tokens, of which each sample has so many.
        actual: what the server answered, in the order of the samples.

    Returns:
        Figures, or failures where an output is missing, has another shape, or holds NaN or an infinity.
    """
    if LENGTHS in expected:
        expected, actual = own_tokens(expected, actual)
    failures = tuple(failure for name in sorted(expected) for failure in _failures(name, expected[name], actual))
    if failures:
        return Comparison({}, {}, failures)
    pairs = {name: (_flat(expected[name]), _flat(actual[name])) for name in expected}
    measures = _MEASURES[metric](pairs)
    worst = {name: _worst(values, CRITERIA_BY_FIGURE[metric][name].at_least) for name, values in measures.items()}
    return Comparison({name: _figure(name, measures[name], worst[name]) for name in measures} | _means(measures), worst)


CRITERIA_BY_FIGURE: Final = {
    metric: {criterion.figure: criterion for criterion in criteria} for metric, criteria in CRITERIA.items()
}


def decisions(metric: str, answers: Answers) -> np.ndarray:
    """What a client would take from each answer, [samples, …]: the label, the labels, or the values themselves."""
    import numpy as np

    if metric == "single-label":
        return np.asarray(answers["PROBABILITIES"].argmax(axis=1)[:, None])
    if metric == "multi-label":
        return np.asarray(answers["PROBABILITIES"] >= _THRESHOLD)
    if metric == PIPELINE:
        return _kinds(answers)
    if metric == "logits":
        values = [answers[name].reshape(len(answers[name]), -1) for name in sorted(answers) if name != LENGTHS]
        return np.concatenate(values, axis=1)
    return answers["EMBEDDING" if metric == "cosine" else "LOGITS"]


def _failures(name: str, expected: np.ndarray, actual: Answers) -> list[Failure]:
    import numpy as np

    if name not in actual:
        return [
            Failure("missing-output", f"{name} was not answered; answered: {', '.join(sorted(actual)) or 'nothing'}")
        ]
    answer = actual[name]
    if answer.shape != expected.shape:
        return [Failure("wrong-shape", f"{name} has shape {list(answer.shape)}, expected {list(expected.shape)}")]
    if _kind(answer) != _kind(expected):
        return [Failure("wrong-type", f"{name} is {answer.dtype}, not {_kind(expected)}")]
    if answer.dtype.kind != "f":
        return []
    finite = np.isfinite(answer).reshape(len(answer), -1).all(axis=1)
    if not finite.all():
        sample = int((~finite).argmax())
        what = f"{name} holds NaN or an infinity in {int((~finite).sum())} of {len(answer)} answers"
        return [Failure("not-finite", what, sample)]
    if not np.isfinite(expected).all():
        raise InternalError(f"the expected {name} holds NaN or an infinity: the reference should have refused it")
    return []


def _kind(array: np.ndarray) -> str:
    kinds = {"f": "floating point", "i": "whole numbers", "u": "whole numbers", "b": "booleans", "O": "texts"}
    return kinds.get(array.dtype.kind, array.dtype.name)


def _flat(array: np.ndarray) -> np.ndarray:
    """[samples, values]; numbers as FP64."""
    import numpy as np

    return (array if array.dtype.kind == "O" else array.astype(np.float64)).reshape(len(array), -1)


def _kinds(answers: Answers) -> np.ndarray:
    """For each sample a number, the same for those with the same texts; where there are no texts, the same numbers."""
    import numpy as np

    chosen = {name: array for name, array in answers.items() if array.dtype.kind == "O"} or answers
    rows = zip(*(_flat(array).tolist() for array in chosen.values()), strict=True)
    seen: dict[str, int] = {}
    return np.array([[seen.setdefault(repr(row), len(seen))] for row in rows])


Pairs = Mapping[str, "tuple[np.ndarray, np.ndarray]"]


def _measure_cosine(pairs: Pairs) -> dict[str, np.ndarray]:
    import numpy as np

    expected, actual = pairs["EMBEDDING"]
    lengths, found = np.linalg.norm(expected, axis=1), np.linalg.norm(actual, axis=1)
    product = lengths * found
    # A vector of length 0 has no direction: it agrees with another such vector, and with nothing else.
    both_zero = (lengths == 0) & (found == 0)
    cosine = np.where(product > 0, (expected * actual).sum(axis=1) / np.where(product > 0, product, 1), both_zero)
    difference = np.abs(found - lengths) / np.where(lengths > 0, lengths, 1)
    return {"cosine": np.minimum(cosine, 1.0), "length_difference": difference}


def _measure_labels(pairs: Pairs, agreement: np.ndarray) -> dict[str, np.ndarray]:
    import numpy as np

    expected, actual = pairs["PROBABILITIES"]
    measures = {
        "label_agreement": agreement,
        "max_probability_difference": np.abs(expected - actual).max(axis=1),
    }
    return measures | {"max_logit_difference": _relative_difference(*pairs["LOGITS"])}


def _measure_single_label(pairs: Pairs) -> dict[str, np.ndarray]:
    expected, actual = pairs["PROBABILITIES"]
    return _measure_labels(pairs, expected.argmax(axis=1) == actual.argmax(axis=1))


def _measure_multi_label(pairs: Pairs) -> dict[str, np.ndarray]:
    expected, actual = pairs["PROBABILITIES"]
    return _measure_labels(pairs, ((expected >= _THRESHOLD) == (actual >= _THRESHOLD)).mean(axis=1))


def _measure_regression(pairs: Pairs) -> dict[str, np.ndarray]:
    return {"max_difference": _relative_difference(*pairs["LOGITS"])}


def _measure_pipeline(pairs: Pairs) -> dict[str, np.ndarray]:
    import numpy as np

    texts = {name: pair for name, pair in pairs.items() if pair[0].dtype.kind == "O"}
    compared = [texts_compared(*pair) for pair in texts.values()]
    differences = [
        np.abs(pair[0] - pair[1]).max(axis=1, initial=0) for name, pair in pairs.items() if name not in texts
    ]
    differences += [one.differences for one in compared if one.has_numbers]
    measures = {"max_difference": np.max(differences, axis=0)} if differences else {}
    if texts:
        measures["text_agreement"] = np.concatenate([one.same for one in compared], axis=1).mean(axis=1)
    return measures


def figures_of(metric: str, expected: Answers) -> tuple[str, ...]:
    """The figures that are to be judged: of a pipeline those that its outputs have, of other metrics all."""
    if metric != PIPELINE:
        return tuple(criterion.figure for criterion in CRITERIA[metric])
    flat = {name: _flat(array) for name, array in expected.items()}
    return tuple(_measure_pipeline({name: (array, array) for name, array in flat.items()}))


def telling_figures(expected: Answers) -> tuple[str, ...]:
    """The figures of a pipeline that tell the answers of two samples apart.

    Numbers in JSON do not: where two texts differ otherwise, their numbers are not compared.
    """
    kinds = {array.dtype.kind == "O" for array in expected.values()}
    return (*(["max_difference"] if False in kinds else []), *(["text_agreement"] if True in kinds else []))


def _measure_logits(pairs: Pairs) -> dict[str, np.ndarray]:
    import numpy as np

    return {"max_difference": np.max([_relative_difference(*pair) for pair in pairs.values()], axis=0)}


def _relative_difference(expected: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Per sample, the largest difference, relative to the largest expected value of all samples."""
    import numpy as np

    scale = float(np.abs(expected).max(initial=0.0)) or 1.0
    return np.asarray(np.abs(expected - actual).max(axis=1, initial=0.0) / scale)


_MEASURES: Final[Mapping[str, Callable[[Pairs], dict[str, np.ndarray]]]] = {
    "cosine": _measure_cosine,
    "single-label": _measure_single_label,
    "multi-label": _measure_multi_label,
    "regression": _measure_regression,
    "logits": _measure_logits,
    PIPELINE: _measure_pipeline,
}


def _worst(values: np.ndarray, at_least: bool) -> Worst:
    sample = int(values.argmin() if at_least else values.argmax())
    return Worst(sample, float(values[sample]))


def _figure(name: str, values: np.ndarray, worst: Worst) -> float:
    return float(values.mean()) if name in SHARES else worst.value


def _means(measures: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {"cosine_mean": float(measures["cosine"].mean())} if "cosine" in measures else {}
