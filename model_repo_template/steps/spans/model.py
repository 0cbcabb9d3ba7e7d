"""Start and end logits → the answer in the context, in Triton's Python backend.

In: ``START_LOGITS``, ``END_LOGITS`` FP32 [n, s]; of the tokenizer: ``OFFSETS`` INT64 [n, s, 2] (characters),
``SEQUENCE_IDS`` INT64 [n, s] (-1 special or padding, 0 question, 1 context), ``WORD_IDS`` INT64 [n, s] where
``align_to_words`` is set; ``TEXT_PAIR`` BYTES [n, 1], the context. Out: ``ANSWER`` BYTES [n, 1], ``SCORE`` FP32 [n, 1],
``START`` and ``END`` INT64 [n, 1]: characters in the context, the end exclusive.

This is the algorithm of ``pipeline("question-answering")`` in transformers 4 (5 has no such pipeline) for a context
that fits into one piece: a span's score is the probability of its start times that of its end, and the best spans that
read the same, but for upper and lower case, add up.

``settings.json``: ``max_answer_length`` (tokens); optionally ``align_to_words`` (default false; transformers: true):
answers begin and end with whole words; ``handle_impossible_answer`` (default false): an empty answer where "no answer"
is more likely; ``no_answer_token`` (default true): the first token, if special, stands for "no answer" and has a share
of the probability: so for all tokenizers that begin with a [CLS] or <s>.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tritonsmith_step import RefusedError, attempt, load_settings, read_together, respond, to_column, to_texts

_MORE_TO_ALIGN = 12  # best spans that are looked at when several may be the same words; transformers: 2 k + 10


class Answer(NamedTuple):
    """A span of the context, in characters."""

    text: str
    score: float
    start: int
    end: int


class Row(NamedTuple):
    """What is known of one question and its context; arrays over the s tokens."""

    start_logits: np.ndarray
    end_logits: np.ndarray
    offsets: np.ndarray
    sequence_ids: np.ndarray
    word_ids: np.ndarray | None
    context: str


class Spans:
    """Finds answers.

    Args:
        settings: the content of ``settings.json``.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._max_length = settings["max_answer_length"]
        self.align = settings.get("align_to_words", False)
        self._impossible = settings.get("handle_impossible_answer", False)
        self._no_answer_token = settings.get("no_answer_token", True)

    def find(self, row: Row) -> Answer:
        """The best answer.

        Raises:
            RefusedError: no token of the context is there.
        """
        places = np.flatnonzero(row.sequence_ids == 1)
        if not len(places):
            raise RefusedError("the context has no tokens, or none fits beside the question")
        starts, ends, nothing = self._probabilities(row, places)
        answers: dict[str, Answer] = {}
        for first, last, score in self._best_spans(starts, ends):
            begin, end = self._characters(row, places[first], places[last])
            text = row.context[begin:end]
            seen = answers.get(text.lower(), Answer(text, 0.0, begin, end))
            answers[text.lower()] = seen._replace(score=seen.score + score)
        found = list(answers.values())
        if self._impossible:
            found.append(Answer("", nothing, 0, 0))
        return max(found, key=lambda answer: answer.score)  # of equal ones the first

    def _probabilities(self, row: Row, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Start and end probabilities of the context's tokens, and the score of "no answer"."""
        competing = places
        if self._no_answer_token and row.sequence_ids[0] == -1:
            competing = np.concatenate([[0], places])
        starts, ends = softmax(row.start_logits[competing]), softmax(row.end_logits[competing])
        extra = len(competing) - len(places)
        return starts[extra:], ends[extra:], float(starts[0] * ends[0]) if extra else 0.0

    def _best_spans(self, starts: np.ndarray, ends: np.ndarray) -> list[tuple[int, int, float]]:
        """The best (first token, last token, score), best first; tokens are counted in the context."""
        longest = min(self._max_length, len(ends))
        # [s, longest]: the ends of the spans of 1, 2, … tokens from each start; 0 beyond the last token
        of_start = np.lib.stride_tricks.sliding_window_view(np.append(ends, np.zeros(longest - 1)), longest)
        scores = (starts[:, None] * of_start).ravel()
        count = min(_MORE_TO_ALIGN if self.align else 1, len(scores))
        best = np.argpartition(-scores, count - 1)[:count]
        best = best[np.lexsort((best, -scores[best]))]
        found = [
            (index // longest, index // longest + index % longest, float(scores[index])) for index in best.tolist()
        ]
        # Where "no answer" leaves nothing to the others, any span is as good as another.
        return [span for span in found if span[1] < len(ends)] or [(0, 0, 0.0)]

    def _characters(self, row: Row, first: int, last: int) -> tuple[int, int]:
        if row.word_ids is not None and row.word_ids[first] >= 0 and row.word_ids[last] >= 0:
            first = int(np.argmax(self._of_word(row, first)))
            last = len(row.word_ids) - 1 - int(np.argmax(self._of_word(row, last)[::-1]))
        return int(row.offsets[first, 0]), int(row.offsets[last, 1])

    def _of_word(self, row: Row, token: int) -> np.ndarray:
        assert row.word_ids is not None
        return (row.word_ids == row.word_ids[token]) & (row.sequence_ids == 1)


def softmax(logits: np.ndarray) -> np.ndarray:
    """The probabilities of logits [s]."""
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return powers / powers.sum()


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002 - Triton's signature
        """Reads the settings."""
        self._spans = Spans(load_settings(Path(__file__).absolute().parent))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers all requests of a call, in order."""
        return [respond(attempt(self._answer, request)) for request in requests]

    def _answer(self, request: Any) -> dict[str, np.ndarray]:
        tensors: dict[str, tuple[int, ...]] = {"START_LOGITS": (-1,), "END_LOGITS": (-1,), "SEQUENCE_IDS": (-1,)}
        tensors |= {"OFFSETS": (-1, 2), "TEXT_PAIR": (1,)} | ({"WORD_IDS": (-1,)} if self._spans.align else {})
        arrays = read_together(request, tensors)
        texts = to_texts(arrays.pop("TEXT_PAIR"), "TEXT_PAIR")
        if len({array.shape[1] for array in arrays.values()}) > 1:
            raise RefusedError(f"{', '.join(arrays)} must have as many tokens as each other")
        words = arrays.get("WORD_IDS", [None] * len(texts))
        names = ("START_LOGITS", "END_LOGITS", "OFFSETS", "SEQUENCE_IDS")
        rows = zip(*(arrays[name] for name in names), words, texts, strict=True)
        found = [self._find(index, Row(*row)) for index, row in enumerate(rows)]
        return {
            "ANSWER": to_column([answer.text for answer in found]),
            "SCORE": np.array([[answer.score] for answer in found], dtype=np.float32),
            "START": np.array([[answer.start] for answer in found], dtype=np.int64),
            "END": np.array([[answer.end] for answer in found], dtype=np.int64),
        }

    def _find(self, index: int, row: Row) -> Answer:
        try:
            return self._spans.find(row)
        except RefusedError as refused:
            raise RefusedError(f"TEXT_PAIR, row {index}: {refused}") from refused
