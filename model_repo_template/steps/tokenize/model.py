"""Text → token ids: the first step of the ensemble, in Triton's Python backend.

Everything it needs lies beside it: ``tokenizer.json``, ``settings.json`` (what is not in that file: limits, padding,
prompt) and ``vendor/`` (the ``tokenizers`` package). Besides those it needs numpy, which every Triton image has.

In: ``TEXT`` BYTES [n, 1], UTF-8; ``TEXT_PAIR`` likewise where the settings say so. Out: the model's inputs, INT64
[n, length], and the settings' ``extra_outputs``, which say what each token was made of. All requests of one call are
encoded together; each gets an answer, or an error, of its own.
"""

from __future__ import annotations

import json
import os
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

try:
    import triton_python_backend_utils as pb_utils
except ImportError:  # tritonsmith itself, which makes warm-up data with the code that will serve
    pb_utils = None

SETTINGS_SCHEMA = 1

# Output → what a token has that was made of no text: padding, and what the tokenizer adds by itself.
EXTRA_OUTPUTS: dict[str, Any] = {
    "OFFSETS": (0, 0),  # first and last character, exclusive, in its text: INT64 [n, length, 2]
    "SEQUENCE_IDS": -1,  # 0 for TEXT, 1 for TEXT_PAIR
    "WORD_IDS": -1,  # the number of its word in its text
}


class RefusedError(Exception):
    """A request cannot be answered; the others of its call can."""


class Encoder:
    """Turns texts into the model's inputs, exactly as the Hugging Face tokenizer does.

    Args:
        tokenizer: a ``tokenizers.Tokenizer``.
        settings: the content of ``settings.json``.
    """

    def __init__(self, tokenizer: Any, settings: dict[str, Any]) -> None:
        if settings["schema"] != SETTINGS_SCHEMA:
            raise ValueError(f"settings.json has schema {settings['schema']}; this step reads {SETTINGS_SCHEMA}")
        self._tokenizer = tokenizer
        self._settings = settings
        self._extra = settings.get("extra_outputs", [])
        # What transformers does for truncation=True: strategy longest_first, no overlap.
        strategy = settings.get("truncation_strategy", "longest_first")
        self._check(strategy)
        tokenizer.no_padding()
        tokenizer.enable_truncation(
            settings["max_length"], stride=0, strategy=strategy, direction=settings["truncation_side"]
        )

    def _check(self, strategy: str) -> None:
        settings = self._settings
        if unknown := [name for name in self._extra if name not in EXTRA_OUTPUTS]:
            raise ValueError(f"settings.json: extra output {unknown[0]}; allowed: {', '.join(EXTRA_OUTPUTS)}")
        if "OFFSETS" in self._extra and (settings["prompt"] or settings["strip"] or settings["lower_case"]):
            raise ValueError("settings.json: OFFSETS are those of TEXT as it comes: without prompt, strip, lower_case")
        if strategy != "longest_first" and not (strategy == "only_second" and settings["text_pair"]):
            allowed = "longest_first, and with text_pair only_second"
            raise ValueError(f"settings.json: truncation_strategy is {strategy!r}; allowed: {allowed}")

    def encode(self, requests: list[list[tuple[str, ...]]]) -> list[Any]:
        """Encodes the texts of many requests.

        Args:
            requests: for each request its rows, and for each row its text, or text and pair.

        Returns:
            for each request a dict of input name → INT64 array [rows, length], or what was :class:`RefusedError`.
        """
        prepared = [[self._prepare(row) for row in rows] for rows in requests]
        try:
            encodings = self._tokenizer.encode_batch([row for rows in prepared for row in rows])
        except Exception:
            # One text that the tokenizer cannot take must not fail the others.
            return [self._alone(rows) for rows in prepared]
        left = iter(encodings)
        return [self._answer(list(islice(left, len(rows)))) for rows in prepared]

    def _prepare(self, row: tuple[str, ...]) -> Any:
        texts = [self._settings["prompt"] + row[0], *row[1:]]
        if self._settings["strip"]:
            texts = [text.strip() for text in texts]
        if self._settings["lower_case"]:
            texts = [text.lower() for text in texts]
        return tuple(texts) if len(texts) > 1 else texts[0]

    def _alone(self, rows: list[Any]) -> Any:
        try:
            encodings = self._tokenizer.encode_batch(rows)
        except Exception as error:
            return RefusedError(f"the tokenizer refuses the text: {error}")
        return self._answer(encodings)

    def _answer(self, encodings: list[Any]) -> Any:
        lengths = [len(encoding.ids) for encoding in encodings]
        if 0 in lengths:
            return RefusedError(f"row {lengths.index(0)}: the text gives no tokens")
        width = self._width(max(lengths))
        values = {
            "input_ids": ([encoding.ids for encoding in encodings], self._settings["pad_token_id"]),
            "attention_mask": ([encoding.attention_mask for encoding in encodings], 0),
            "token_type_ids": ([encoding.type_ids for encoding in encodings], self._settings["pad_token_type_id"]),
        }
        answer = {name: self._pad(*values[name], width) for name in self._settings["input_names"]}
        for name in self._extra:
            # A token's own values are names of the encoding in lower case; None where it was made of no text.
            fill = EXTRA_OUTPUTS[name]
            rows = [
                [fill if value is None else value for value in getattr(encoding, name.lower())]
                for encoding in encodings
            ]
            answer[name] = self._pad(rows, fill, width)
        return answer

    def _width(self, longest: int) -> int:
        """The length of a batch: its longest text, or the next bucket; never less than the model's least length."""
        width = max(longest, self._settings["minimum_length"])
        if self._settings["padding"] == "buckets":
            return next(bucket for bucket in self._settings["buckets"] if bucket >= width)
        return width

    def _pad(self, rows: list[list[Any]], fill: Any, width: int) -> np.ndarray:
        padded = np.full((len(rows), width, *np.shape(fill)), fill, dtype=np.int64)
        for target, row in zip(padded, rows, strict=True):
            if self._settings["padding_side"] == "left":
                target[width - len(row) :] = row
            else:
                target[: len(row)] = row
        return padded


def load_encoder(folder: Path, settings: dict[str, Any] | None = None) -> Encoder:
    """The encoder of a folder that holds ``tokenizer.json`` and, unless they are given, ``settings.json``."""
    from tokenizers import Tokenizer

    if settings is None:
        settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    return Encoder(Tokenizer.from_file(str(folder / "tokenizer.json")), settings)


def read_rows(request: Any, names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The texts of a request, row by row.

    Raises:
        RefusedError: a tensor does not have the shape [n, 1], or a text is no UTF-8.
    """
    columns = [_read_column(pb_utils.get_input_tensor_by_name(request, name), name) for name in names]
    if len({len(column) for column in columns}) > 1:
        raise RefusedError(f"{' and '.join(names)} must have as many rows, got {[len(column) for column in columns]}")
    return list(zip(*columns, strict=True))


def _read_column(tensor: Any, name: str) -> list[str]:
    if tensor is None:
        raise RefusedError(f"{name} is missing")
    array = tensor.as_numpy()
    if array.ndim != 2 or array.shape[0] < 1 or array.shape[1] != 1:
        raise RefusedError(f"{name} has shape {list(array.shape)}; allowed: [n, 1], one text per row")
    texts = []
    for row, item in enumerate(array[:, 0]):
        try:
            texts.append(item.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise RefusedError(
                f"{name}, row {row}: byte 0x{item[error.start]:02x} at position {error.start} is not UTF-8"
            ) from error
    return texts


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the vendored tokenizer."""
        folder = Path(__file__).absolute().parent
        parameters = json.loads(args["model_config"]).get("parameters", {})
        _use_vendored(folder / "vendor", int(parameters["tokenizer_threads"]["string_value"]))
        settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        self._names = ("TEXT", "TEXT_PAIR") if settings["text_pair"] else ("TEXT",)
        self._encoder = load_encoder(folder, settings)
        self._encoder.encode([[self._names]])  # the first call makes the tokenizer's threads and caches

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers all requests of a call, in order."""
        rows = [self._try_read(request) for request in requests]
        readable = [index for index, item in enumerate(rows) if not isinstance(item, RefusedError)]
        answers = list(rows)
        encoded = self._encoder.encode([rows[index] for index in readable])
        for index, answer in zip(readable, encoded, strict=True):
            answers[index] = answer
        return [self._respond(answer) for answer in answers]

    def _try_read(self, request: Any) -> Any:
        try:
            return read_rows(request, self._names)
        except RefusedError as refused:
            return refused

    def _respond(self, answer: Any) -> Any:
        if isinstance(answer, RefusedError):
            error = pb_utils.TritonError(str(answer), pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(output_tensors=[], error=error)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in answer.items()])


def _use_vendored(vendor: Path, threads: int) -> None:
    """Makes ``import tokenizers`` find the vendored package first, with as many threads as the target has to give."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    sys.dont_write_bytecode = True  # the model's folder may be read-only, and stays as it was shipped
    sys.path.insert(0, str(vendor))
