"""The reference stage: what the Hugging Face model answers, and what a wrong build would answer."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from builder.artifacts import LENGTHS
from builder.core.digest import digest_json
from builder.errors import ModelError
from builder.export import numpy_heads
from builder.export.model_files import code_files, digests, needed_memory, transformer_folder
from builder.export.probes import Probe, make_probes, probe_shapes
from builder.export.reference_files import READ_SUFFIXES, sample_json, write_reference
from builder.export.tasks import Head, read_head
from builder.export.versions import versions
from builder.recipe.tasks import REQUIRED, TASKS, Task
from builder.tools import hf
from builder.tools.heads import Pooling, Score, Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from builder.artifacts import Json, Reference, Sample, Source, TokenizerFiles
    from builder.tools.opaque import Array, HfModel, HfTokenizer

log = logging.getLogger(__name__)

_TOKENS_PER_BATCH: Final = 4096
_PROGRESS_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Refer:
    """Asks the Hugging Face model on the CPU in FP32: with its own tokenizer, and with numpy behind it.

    Args:
        task: one that takes text.
        batch: smallest and largest batch of the recipe.
        sequence: shortest and longest sequence of the recipe, in tokens.
    """

    task: str
    batch: tuple[int, int] = (1, 32)
    sequence: tuple[int, int] = (2, 128)
    name: ClassVar[str] = "reference"
    version: ClassVar[int] = 1
    apart: ClassVar[bool] = True

    def fingerprint(self, inputs: tuple[Source, TokenizerFiles, Sequence[Sample]]) -> Mapping[str, Json]:
        source, tokenizer, samples = inputs
        return {
            "task": self.task,
            "batch": list(self.batch),
            "sequence": list(self.sequence),
            "source": {name: file.sha256 for name, file in source.files.items() if name.endswith(READ_SUFFIXES)},
            "code": digests(source.files, code_files(source)),
            "tokenizer": [tokenizer.files["tokenizer.json"].sha256, tokenizer.max_length, list(tokenizer.input_names)],
            "samples": digest_json([sample_json(sample) for sample in samples]),
            "versions": versions("torch", "transformers", "tokenizers", "numpy", "safetensors"),
        }

    def requires(self, inputs: tuple[Source, TokenizerFiles, Sequence[Sample]]) -> None:
        _, tokenizer, samples = inputs
        if self.sequence[1] > tokenizer.max_length:
            raise ModelError(
                f"shapes.sequence.max is {self.sequence[1]}; allowed: up to {tokenizer.max_length}, "
                "the longest text that the tokenizer makes",
                mend=f"lower shapes.sequence.max, or raise inputs.max_length above {tokenizer.max_length}",
            )
        if not samples:
            raise ModelError("there is no sample: nothing could be compared", mend="name a file in verify.samples")
        if TASKS[self.task].pairs == REQUIRED and any(sample.text_pair is None for sample in samples):
            raise ModelError(f"{self.task} takes pairs of texts, and a sample has one", mend="give each a text_pair")

    def memory(self, inputs: tuple[Source, TokenizerFiles, Sequence[Sample]]) -> int:
        """All weights, and what is computed from a batch of :data:`_TOKENS_PER_BATCH`."""
        return needed_memory(inputs[0], copies=1.25)

    def run(self, inputs: tuple[Source, TokenizerFiles, Sequence[Sample]], out: Path) -> Reference:
        source, files, samples = inputs
        head = read_head(source.files, self.task)
        with transformer_folder(source, head.folder, weights=True, below=out) as folder, hf.one_thread():
            tokenizer = hf.load_tokenizer(folder, lower_case=head.lower_case, remote_code=source.remote_code)
            # Not eager attention, which is what is traced: what transformers itself would take.
            model = hf.load_model(folder, self.task, attention=None, remote_code=source.remote_code)
            weights = numpy_heads.step_weights(source.files, head.steps)
            asked = _Asked(model, tokenizer, files, head, weights, TASKS[self.task])
            answers, controls = _answers(asked, samples)
            shapes = probe_shapes(self.batch, self.sequence)
            probes = make_probes(shapes, files, tokenizer, model.config)
            tensors = {**answers, **_probe_tensors(asked, probes)}
        shapes = [(probe.batch, probe.sequence) for probe in probes]
        return write_reference(out, head, samples, tensors, controls, shapes)

    def ensures(self, inputs: tuple[Source, TokenizerFiles, Sequence[Sample]], output: Reference) -> None:
        pass


@dataclass(frozen=True)
class _Asked:
    """The model, and how it is asked."""

    model: HfModel
    tokenizer: HfTokenizer
    files: TokenizerFiles
    head: Head
    weights: Mapping[int, numpy_heads.Weights]
    task: Task

    def texts(self, samples: Sequence[Sample]) -> list[tuple[str, ...]]:
        """The text or texts of each sample, with the prompt."""
        pairs = any(sample.text_pair is not None for sample in samples)
        texts = [(self.head.prompt + sample.text, sample.text_pair or "") for sample in samples]
        return [text if pairs else text[:1] for text in texts]

    def tokens(self, texts: Sequence[tuple[str, ...]]) -> list[dict[str, list[int]]]:
        """The tokens of each text, as they are served.

        Raises:
            ModelError: one of them has none, or leaves no room for its second text.
        """
        try:
            tokens = hf.encode(self.tokenizer, texts, self.files.max_length, self.task.truncation)
        except ModelError:
            for index, text in enumerate(texts):
                self._check_room(index, text)
            raise
        if not all(item["input_ids"] for item in tokens):
            empty = next(index for index, item in enumerate(tokens) if not item["input_ids"])
            raise ModelError(
                f"sample {empty + 1} ({texts[empty][0][:40]!r}) gives no tokens: the model has no answer to it",
                mend="leave it out of verify.samples: such texts are refused when the model is served",
            )
        return tokens

    def cut(self, text: tuple[str, ...], max_length: int) -> dict[str, list[int]]:
        """The tokens of a text, cut without regard to the task."""
        return hf.encode(self.tokenizer, [text], max_length)[0]

    def _check_room(self, index: int, text: tuple[str, ...]) -> None:
        try:
            hf.encode(self.tokenizer, [text], self.files.max_length, self.task.truncation)
        except ModelError as error:
            raise ModelError(
                f"sample {index + 1} ({text[0][:40]!r}): {error.message}",
                mend="shorten it in verify.samples: such requests are refused when the model is served",
            ) from error

    def answer(self, inputs: Mapping[str, Array], steps: Sequence[Step]) -> tuple[Array, ...]:
        """Outputs for arrays [batch, sequence], by name."""
        values = hf.run_outputs(self.model, inputs, self.head.takes)
        return numpy_heads.apply(steps, self.weights, values, inputs["attention_mask"])


def _answers(asked: _Asked, samples: Sequence[Sample]) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Expected outputs of the samples, and of each negative control; and the controls' names."""
    import numpy as np

    texts = asked.texts(samples)
    tokens = asked.tokens(texts)
    thirds = [asked.cut(text, max(3, len(item["input_ids"]) // 3)) for text, item in zip(texts, tokens, strict=True)]
    runs = {"": (tokens, asked.head.steps), "truncated": (thirds, asked.head.steps)}
    first = asked.head.steps[0] if asked.head.steps else None
    if isinstance(first, Pooling):
        runs["wrong_pooling"] = (tokens, _wrong_pooling(asked.head.steps))
    if isinstance(first, Score):
        runs["wrong_activation"] = (tokens, _wrong_activation(asked.head.steps))
    if texts and len(texts[0]) > 1:
        swapped = [asked.cut(text[::-1], asked.files.max_length) for text in texts]
        runs["swapped_pair"] = (swapped, asked.head.steps)
    tensors: dict[str, Array] = {}
    for control, (items, steps) in runs.items():
        prefix = f"control.{control}." if control else ""
        values = _run_all(asked, items, steps, control or "samples")
        tensors |= {prefix + name: value for name, value in values.items()}
    if asked.task.per_token:
        # As if every token had the answer of the one before it: token and answer would be out of step.
        tensors |= {f"control.shifted.{name}": np.roll(tensors[name], 1, axis=1) for name in asked.head.outputs}
        return tensors, (*(control for control in runs if control), "shifted")
    return tensors, tuple(control for control in runs if control)


def _wrong_activation(steps: Sequence[Step]) -> tuple[Step, ...]:
    score = steps[0]
    right = score.activation if isinstance(score, Score) else ""
    return (Score("Sigmoid" if right == "Identity" else "Identity"), *steps[1:])


def _wrong_pooling(steps: Sequence[Step]) -> tuple[Step, ...]:
    pooling = steps[0]
    modes = pooling.modes if isinstance(pooling, Pooling) else ()
    return (Pooling(tuple("mean" if mode == "cls" else "cls" for mode in modes)), *steps[1:])


def _run_all(
    asked: _Asked, tokens: Sequence[Mapping[str, list[int]]], steps: Sequence[Step], what: str
) -> dict[str, Array]:
    """Outputs of all texts by name, in order. Texts of one length share a batch: no answer depends on padding."""
    import numpy as np

    results: dict[int, tuple[Array, ...]] = {}
    began = time.monotonic()
    for indices in _batches([len(item["input_ids"]) for item in tokens]):
        names = asked.files.input_names
        inputs = {name: np.asarray([tokens[index][name] for index in indices], np.int64) for name in names}
        outputs = asked.answer(inputs, steps)
        results |= {index: tuple(value[row] for value in outputs) for row, index in enumerate(indices)}
        if time.monotonic() - began > _PROGRESS_SECONDS:
            log.info("reference: %s: %d of %d texts", what, len(results), len(tokens))
            began = time.monotonic()
    in_order = [results[index] for index in range(len(tokens))]
    named = {name: [row[index] for row in in_order] for index, name in enumerate(asked.head.outputs)}
    if not asked.task.per_token:
        return {name: np.stack(rows) for name, rows in named.items()}
    lengths = np.asarray([len(item["input_ids"]) for item in tokens], np.int64)
    return {**{name: _padded(rows) for name, rows in named.items()}, LENGTHS: lengths}


def _padded(rows: Sequence[Array]) -> Array:
    """Arrays [length, …] as one [rows, longest, …], with zeros behind."""
    import numpy as np

    padded = np.zeros((len(rows), max(len(row) for row in rows), *rows[0].shape[1:]), np.float32)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    return padded


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices of texts of equal length, at most 4096 tokens at a time, short ones first."""
    groups: dict[int, list[int]] = {}
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        groups.setdefault(lengths[index], []).append(index)
    for length, indices in groups.items():
        size = max(1, _TOKENS_PER_BATCH // max(1, length))
        yield from (indices[start : start + size] for start in range(0, len(indices), size))


def _probe_tensors(asked: _Asked, probes: Sequence[Probe]) -> dict[str, Array]:
    import numpy as np

    tensors: dict[str, Array] = {}
    for index, probe in enumerate(probes):
        rows = np.asarray(probe.rows, np.int64)
        outputs = asked.answer({name: value[rows] for name, value in probe.inputs.items()}, asked.head.steps)
        named = {**probe.inputs, **dict(zip(asked.head.outputs, outputs, strict=True)), "rows": rows}
        tensors |= {f"probe.{index}.{name}": value for name, value in named.items()}
    return tensors
