"""The answer to a question, as ``pipeline("question-answering")`` of transformers 4 found it in a context that fits.

Its algorithm (``decode_spans`` and ``postprocess``): a span's score is the probability of its start times that of its
end. Where answers are whole words, the best spans are widened to words, and those that then read the same, but for
upper and lower case, are one answer, whose score is their sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.tools.opaque import Array

_WIDENED: Final = 12  # transformers: 2 k + 10, of which the best k are given back


@dataclass(frozen=True, slots=True)
class Read:
    """A question and its context, as tokens; arrays over the s tokens."""

    context: str
    offsets: Array  # INT64 [s, 2], characters
    sequence: Array  # INT64 [s]: -1 special, 0 question, 1 context
    words: Array | None  # INT64 [s], -1 of no word; None: answers are tokens as they are


@dataclass(frozen=True, slots=True)
class Found:
    """An answer: its place in the context, in characters, the end exclusive."""

    score: float
    start: int
    end: int


def best_answer(starts: Array, ends: Array, read: Read, longest: int, *, has_nothing: bool) -> Found:
    """The most probable answer; of equal ones the first.

    Args:
        starts: logits FP32 [s] of the tokens at which it begins.
        ends: those of the tokens at which it ends.
        read: the tokens; one at least is of the context.
        longest: how many tokens it may have.
        has_nothing: whether a first token that is special stands for "no answer", and has its share of the probability.
    """
    answers: dict[str, Found] = {}
    for score, first, last in _best_spans(starts, ends, read, longest, has_nothing):
        start, end = _characters(read, first, last)
        same = answers.setdefault(read.context[start:end].lower(), Found(0.0, start, end))
        answers[read.context[start:end].lower()] = Found(same.score + score, same.start, same.end)
    return max(answers.values(), key=lambda answer: answer.score)


def _best_spans(
    starts: Array, ends: Array, read: Read, longest: int, has_nothing: bool
) -> Iterator[tuple[float, int, int]]:
    """Score, first and last token of the most probable spans: one, or as many as are widened."""
    import numpy as np

    masked = read.sequence != 1
    if has_nothing and read.sequence[0] == -1:
        masked[0] = False
    first, last = (np.exp(np.where(masked, -np.inf, logits.astype(np.float64))) for logits in (starts, ends))
    first, last = first / first.sum(), last / last.sum()
    first[read.sequence != 1] = last[read.sequence != 1] = 0.0
    scores = np.tril(np.triu(np.outer(first, last)), longest - 1)
    if not scores.max():  # nothing is left to the context
        begin = int((read.sequence == 1).argmax())
        yield 0.0, begin, begin
        return
    for index in np.argsort(-scores, axis=None, kind="stable")[: 1 if read.words is None else _WIDENED]:
        begin, end = map(int, np.unravel_index(index, scores.shape))
        if scores[begin, end]:
            yield float(scores[begin, end]), begin, end


def _characters(read: Read, first: int, last: int) -> tuple[int, int]:
    """Where the words of a span's first and last token begin and end."""
    if read.words is None or min(read.words[first], read.words[last]) < 0:
        return int(read.offsets[first, 0]), int(read.offsets[last, 1])
    context = read.sequence == 1
    starts = read.offsets[context & (read.words == read.words[first]), 0]
    ends = read.offsets[context & (read.words == read.words[last]), 1]
    return int(starts.min()), int(ends.max())
