"""Negative controls: answers that a wrong build would give. The judge must refuse them, or its verdict means nothing.

``shuffled`` is made here: every sample is expected to get another sample's answer. The others (``wrong_pooling``,
``truncated`` …) are in the reference, made by the Hugging Face model used in a wrong way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.artifacts import LENGTHS
from builder.parity.compare import CRITERIA_BY_FIGURE, Answers, compare, decisions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np

    from builder.artifacts import Json

SHUFFLED: Final = "shuffled"
_SAME: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Control:
    """What a wrong build would answer.

    ``inapplicable`` says why the control cannot show anything, and is empty where it can.
    """

    name: str
    expected: Answers
    inapplicable: str = ""


def make_controls(metric: str, expected: Answers, wrong: Mapping[str, Answers]) -> Iterable[Control]:
    """All controls: ``shuffled`` first, then those of the reference.

    Args:
        metric: how answers are compared.
        expected: output name → [samples, …].
        wrong: control name → output name → [samples, …], from the reference.
    """
    yield _shuffled(metric, expected)
    for name in sorted(wrong):
        same = all(_same(expected[output], wrong[name][output]) for output in wrong[name])
        reason = "no sample is answered differently by this mistake" if same else ""
        yield Control(name, _shortest(expected, {**expected, **wrong[name]}), reason)


def hold_against(metric: str, control: Control, answers: Mapping[str, Answers | None]) -> dict[str, Json]:
    """What the judge would see if the control's answers were the expected ones, however the texts were asked.

    Args:
        metric: how answers are compared.
        control: what is expected in place of the truth.
        answers: way of asking → what was answered; None where requests were refused.

    Returns:
        ``ways``: the figures of each way, none where its answers cannot be compared; ``figures``: of each figure the
        one of all ways that is closest to passing; ``inapplicable`` as in :class:`Control`.
    """
    ways = {
        way: {} if answered is None else compare(metric, control.expected, answered).figures
        for way, answered in answers.items()
    }
    return {
        "figures": _most_favourable(metric, ways.values()),
        "inapplicable": control.inapplicable,
        "ways": {way: {"figures": figures} for way, figures in ways.items()},
    }


def _most_favourable(metric: str, ways: Iterable[Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for figures in ways:
        for name, value in figures.items():
            criterion = CRITERIA_BY_FIGURE[metric].get(name)  # a mean has none: the higher, the closer
            better = max if criterion is None or criterion.at_least else min
            found[name] = better(found.get(name, value), value)
    return found


def derangement(groups: np.ndarray) -> np.ndarray:
    """An order in which as few entries as possible keep their group.

    Sorted by group and rotated by the size of the largest group, no entry keeps its group unless that group holds more
    than half of all.

    Args:
        groups: group of each entry, [n].

    Returns:
        For each entry, the index of the one that takes its place, [n].
    """
    import numpy as np

    order = np.argsort(groups, kind="stable")
    shift = int(np.unique(groups, return_counts=True)[1].max())
    replaced = np.empty_like(order)
    replaced[order] = np.roll(order, -(shift % len(order)))
    return replaced


def _shuffled(metric: str, expected: Answers) -> Control:
    import numpy as np

    decided = decisions(metric, expected)
    groups = np.unique(decided.reshape(len(decided), -1), axis=0, return_inverse=True)[1].reshape(-1)
    order = derangement(groups)
    if len(np.unique(groups)) > 1:
        return Control(SHUFFLED, _shortest(expected, {name: values[order] for name, values in expected.items()}))
    # One decision for every text: its answers cannot be told apart, which is a finding and not an excuse.
    return Control(SHUFFLED, {name: np.roll(values, 1, axis=0) for name, values in expected.items()})


def _shortest(expected: Answers, wrong: Answers) -> Answers:
    """Wrong answers, of no more tokens than the right ones have: what is not answered cannot be compared."""
    import numpy as np

    if LENGTHS not in expected:
        return wrong
    return {**wrong, LENGTHS: np.minimum(wrong[LENGTHS], expected[LENGTHS])}


def _same(left: np.ndarray, right: np.ndarray) -> bool:
    import numpy as np

    if "O" in {left.dtype.kind, right.dtype.kind}:
        return left.shape == right.shape and bool((left == right).all())
    # Not bit for bit: the reference may have computed them in batches of other lengths.
    return left.shape == right.shape and bool(np.allclose(left, right, rtol=_SAME, atol=_SAME))
