"""Logits of tokens → the named entities of a text, in Triton's Python backend.

In: ``LOGITS`` FP32 [n, s, L], ``TEXT`` BYTES [n, 1]; of the tokenizer: ``OFFSETS`` INT64 [n, s, 2] (characters),
``SEQUENCE_IDS`` INT64 [n, s] (-1 special or padding), and what tells where words begin (below). Out: ``ENTITIES`` BYTES
[n, 1], JSON in UTF-8: a list of {"entity_group", "score", "word", "start", "end"}, where the end is exclusive; for
aggregation_strategy "none" one for each token, with "entity" in place of "entity_group" and the token's "index".

Groups, scores, starts and ends are those of ``pipeline("token-classification")`` of transformers. ``word`` is what
stands in the text from start to end; transformers puts it together from tokens, which is mostly the same, but in lower
case where the tokenizer is so.

``settings.json``: ``labels`` (L texts); ``aggregation_strategy``; optionally ``ignore_labels`` (default ["O"]). The
strategies first, max and average need words, by ``words``:

* ``ids`` (default): as the tokenizer cuts them, by its ``WORD_IDS`` INT64 [n, s]: for WordPiece and its like
  (transformers guesses from the lengths of tokens, and errs where lower case has another length);
* ``spaces``: a token begins a word where a space is before it, or begins it, as transformers does for all other
  tokenizers; so does an unknown token: ``unk_token_id`` (null: there is none) is looked for in ``input_ids`` INT64
  [n, s].
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tritonsmith_step import RefusedError, attempt, load_settings, read_together, respond, to_column, to_texts

PER_TOKEN = ("none", "simple")
PER_WORD = ("first", "max", "average")


class Piece(NamedTuple):
    """A token, or a word of several: the probabilities of its labels, and where it stands."""

    scores: np.ndarray
    start: int
    end: int
    index: int
    continues: bool  # the word before it


class Entities:
    """Finds entities.

    Args:
        settings: the content of ``settings.json``.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.labels, self._strategy = settings["labels"], settings["aggregation_strategy"]
        if self._strategy not in (*PER_TOKEN, *PER_WORD):
            allowed = ", ".join((*PER_TOKEN, *PER_WORD))
            raise ValueError(f"settings.json: aggregation_strategy is {self._strategy!r}; allowed: {allowed}")
        self._ignored = settings.get("ignore_labels", ["O"])
        self._unknown = settings.get("unk_token_id")
        by_spaces = settings.get("words", "ids") == "spaces"
        self.extra = ()  # the further input that tells words
        if self._strategy in PER_WORD:
            self.extra = (("input_ids",) if self._unknown is not None else ()) if by_spaces else ("WORD_IDS",)

    def find(self, text: str, row: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        """The entities of one text; ``row`` holds the other inputs without their batch axis."""
        pieces = self._tokens(text, row)
        if self._strategy in PER_WORD:
            pieces = [self._word(tokens) for tokens in _gather(pieces, lambda _, piece: piece.continues)]
        found = [(self.labels[piece.scores.argmax()], piece.scores.max(), piece) for piece in pieces]
        if self._strategy == "none":
            return [
                {"entity": label, "score": float(score), "index": piece.index, **_place(text, piece, piece)}
                for label, score, piece in found
                if label not in self._ignored
            ]
        groups = _gather(found, lambda before, item: not item[0].startswith("B-") and _tag(item[0]) == _tag(before[0]))
        named = [(group[0][0].split("-", 1)[-1], group) for group in groups]
        return [
            {"entity_group": name, "score": float(np.mean([score for _, score, _ in group]))}
            | _place(text, group[0][2], group[-1][2])
            for name, group in named
            if name not in self._ignored
        ]

    def _tokens(self, text: str, row: dict[str, np.ndarray]) -> list[Piece]:
        scores, offsets = softmax(row["LOGITS"]), row["OFFSETS"].tolist()
        continues = self._continues(text, row, offsets)
        tokens = np.flatnonzero(row["SEQUENCE_IDS"] >= 0).tolist()
        return [Piece(scores[index], *offsets[index], index, continues[index]) for index in tokens]

    def _continues(self, text: str, row: dict[str, np.ndarray], offsets: list[tuple[int, int]]) -> list[bool]:
        """For each token whether it is of the same word as the token before it."""
        if "WORD_IDS" in row:
            return (np.diff(row["WORD_IDS"], prepend=-1) == 0).tolist()
        known = row["input_ids"] != self._unknown if "input_ids" in row else [True] * len(offsets)
        return [
            bool(start > 0 and " " not in text[start - 1 : start + 1] and known[index])
            for index, (start, _) in enumerate(offsets)
        ]

    def _word(self, tokens: list[Piece]) -> Piece:
        if self._strategy == "first":
            scores = tokens[0].scores
        elif self._strategy == "max":
            scores = max(tokens, key=lambda token: token.scores.max()).scores
        else:
            scores = np.mean([token.scores for token in tokens], axis=0)
        return tokens[0]._replace(scores=scores, end=tokens[-1].end)


def _gather(items: list[Any], belongs: Any) -> list[list[Any]]:
    """Runs of items, each of which belongs to the item before it."""
    runs: list[list[Any]] = []
    for item in items:
        if runs and belongs(runs[-1][-1], item):
            runs[-1].append(item)
        else:
            runs.append([item])
    return runs


def _tag(label: str) -> str:
    return label[2:] if label.startswith(("B-", "I-")) else label


def _place(text: str, first: Piece, last: Piece) -> dict[str, Any]:
    return {"word": text[first.start : last.end], "start": first.start, "end": last.end}


def softmax(logits: np.ndarray) -> np.ndarray:
    """The probabilities of logits [s, L]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002 - Triton's signature
        """Reads the settings."""
        self._entities = Entities(load_settings(Path(__file__).absolute().parent))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers all requests of a call, in order."""
        return [respond(attempt(self._answer, request)) for request in requests]

    def _answer(self, request: Any) -> dict[str, np.ndarray]:
        tensors = {"LOGITS": (-1, len(self._entities.labels)), "OFFSETS": (-1, 2), "SEQUENCE_IDS": (-1,), "TEXT": (1,)}
        arrays = read_together(request, tensors | dict.fromkeys(self._entities.extra, (-1,)))
        texts = to_texts(arrays.pop("TEXT"), "TEXT")
        if len({array.shape[1] for array in arrays.values()}) > 1:
            raise RefusedError(f"{', '.join(arrays)} must have as many tokens as each other")
        found = []
        for row, text in enumerate(texts):
            entities = self._entities.find(text, {name: array[row] for name, array in arrays.items()})
            found.append(json.dumps(entities, ensure_ascii=False))
        return {"ENTITIES": to_column(found)}
