"""The samples as the model takes them, and what the reference answers to them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from builder.artifacts import LENGTHS, TokenizerFiles
from builder.errors import ModelError
from builder.tools import tokenizer_file
from builder.tools.safetensors_values import load_arrays

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.artifacts import ImageFiles, Reference, Sample
    from builder.tools.opaque import Array

_TOKENS_PER_BATCH: Final = 2048

Texts = tuple[str, ...]


class Model(Protocol):
    """What can be asked: a session of onnxruntime, an engine on its GPU."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        """The named outputs, FP32 [batch, …], for inputs by name."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some samples at once: texts of one length, so that nothing is padded."""

    samples: tuple[int, ...]  # their indices
    inputs: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Questions:
    """What a model is asked after each pass, and the answers to compare with, as the reference gives them."""

    batches: tuple[Batch, ...]
    expected: Mapping[str, Array]  # output → [samples, …]; with ``lengths`` where there is an axis of tokens
    metric: str
    count: int  # samples

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs that are compared."""
        return [name for name in self.expected if name != LENGTHS]

    @property
    def inputs(self) -> list[Mapping[str, Array]]:
        """The inputs of all batches."""
        return [batch.inputs for batch in self.batches]

    def ask(self, model: Model) -> dict[str, Array]:
        """The model's answers, in the order of the samples; behind a sample's own tokens, zeros."""
        import numpy as np

        rows: dict[int, dict[str, Array]] = {}
        for batch in self.batches:
            answer = model.run(batch.inputs, self.outputs)
            for place, sample in enumerate(batch.samples):
                rows[sample] = {name: values[place] for name, values in answer.items()}
        in_order = {name: [rows[sample][name] for sample in range(self.count)] for name in self.outputs}
        stacked = _padded if LENGTHS in self.expected else np.stack
        return {name: np.asarray(stacked(values)) for name, values in in_order.items()}


def questions(reference: Reference, tokens: TokenizerFiles | ImageFiles) -> Questions:
    """The reference's own samples; of a model that takes images, its probes."""
    stored = load_arrays(reference.files["expected.safetensors"].path)
    if not isinstance(tokens, TokenizerFiles):
        return _images(reference, stored)
    lines = reference.files["samples.jsonl"].path.read_text(encoding="utf-8").split("\n")
    texts = [_texts(json.loads(line), tokens) for line in lines if line.strip()]
    expected = {name: stored[name] for name in (*reference.outputs, LENGTHS) if name in stored}
    return Questions(batches(texts, tokens), expected, reference.metric, len(texts))


def calibration(samples: Sequence[Sample], tokens: TokenizerFiles) -> tuple[Batch, ...]:
    """Other samples, to choose settings by."""
    asked = [{"text": sample.text, "text_pair": sample.text_pair} for sample in samples]
    return batches([_texts(sample, tokens) for sample in asked], tokens)


def batches(texts: Sequence[Texts], tokens: TokenizerFiles) -> tuple[Batch, ...]:
    """Texts of equal length together, at most 2048 tokens at a time, short ones first."""
    import numpy as np

    path = tokens.files["tokenizer.json"].path
    encoded = tokenizer_file.encode(path, texts, tokens.max_length, tokens.truncation_side, tokens.truncation)
    if empty := [index for index, item in enumerate(encoded) if not item["input_ids"]]:
        raise ModelError(f"sample {empty[0] + 1} ({texts[empty[0]][0][:40]!r}) gives no tokens", mend="leave it out")

    def made(indices: Sequence[int]) -> Batch:
        rows = {name: [encoded[index][name] for index in indices] for name in tokens.input_names}
        return Batch(tuple(indices), {name: np.asarray(values, np.int64) for name, values in rows.items()})

    return tuple(made(indices) for indices in _groups([len(item["input_ids"]) for item in encoded]))


def _texts(sample: Mapping[str, Any], tokens: TokenizerFiles) -> Texts:
    texts = [tokens.prompt + sample["text"], *([sample["text_pair"]] if sample.get("text_pair") is not None else [])]
    if tokens.strip:
        texts = [text.strip() for text in texts]
    return tuple(text.lower() if tokens.lower_case else text for text in texts)


def _groups(lengths: Sequence[int]) -> Iterator[list[int]]:
    groups: dict[int, list[int]] = {}
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        groups.setdefault(lengths[index], []).append(index)
    for length, indices in groups.items():
        size = max(1, _TOKENS_PER_BATCH // length)
        yield from (indices[start : start + size] for start in range(0, len(indices), size))


def _padded(rows: Sequence[Array]) -> Array:
    import numpy as np

    padded = np.zeros((len(rows), max(len(row) for row in rows), *rows[0].shape[1:]), np.float32)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    return padded


def _images(reference: Reference, stored: Mapping[str, Array]) -> Questions:
    """The probes hold the pixels that the reference was asked, and its answers."""
    import numpy as np

    made: list[Batch] = []
    expected: dict[str, list[Array]] = {name: [] for name in reference.outputs}
    count = 0
    for index in range(len({name.split(".")[1] for name in stored if name.startswith("probe.")})):
        prefix = f"probe.{index}."
        rows, pixels = stored[f"{prefix}rows"], stored[f"{prefix}pixel_values"]
        asked = np.resize(pixels, (int(rows.max()) + 1, *pixels.shape[1:]))[rows]
        made.append(Batch(tuple(range(count, count + len(rows))), {"pixel_values": asked}))
        count += len(rows)
        for name, values in expected.items():
            values.append(stored[f"{prefix}{name}"])
    return Questions(
        tuple(made), {name: np.concatenate(values) for name, values in expected.items()}, reference.metric, count
    )
