"""Token ids at shapes that were not traced: the smallest, the largest, and one in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import TokenizerFiles
    from builder.tools.opaque import Array, HfConfig, HfTokenizer

_SEED: Final = 20
_FULL_PROBE_TOKENS: Final = 1024
_ROWS_OF_LARGE_PROBES: Final = 3


@dataclass(frozen=True)
class Probe:
    """One batch of token ids. ``rows`` are those whose answers are stored: all, unless the probe is large."""

    batch: int
    sequence: int
    rows: tuple[int, ...]
    inputs: Mapping[str, Array]  # INT64 [batch, sequence], by name


def probe_shapes(batch: tuple[int, int], sequence: tuple[int, int]) -> list[tuple[int, int]]:
    """(batch, sequence) from (min, min) to (max, max), each once."""
    (least, most), (shortest, longest) = batch, sequence
    middle = ((least + most + 1) // 2, (shortest + longest + 1) // 2)
    shapes = [(least, shortest), (most, shortest), (least, longest), middle, (most, longest)]
    return list(dict.fromkeys(shapes))


def make_probes(
    shapes: list[tuple[int, int]], files: TokenizerFiles, tokenizer: HfTokenizer, config: HfConfig
) -> list[Probe]:
    """Random tokens of the vocabulary between the tokenizer's own special tokens, some rows padded."""
    return [_probe(index, shape, files, tokenizer, config) for index, shape in enumerate(shapes)]


def _probe(
    index: int, shape: tuple[int, int], files: TokenizerFiles, tokenizer: HfTokenizer, config: HfConfig
) -> Probe:
    import numpy as np

    random = np.random.Generator(np.random.PCG64([_SEED, index]))
    batch, sequence = shape
    lengths = random.integers(max(1, min(2, sequence)), sequence + 1, batch)
    lengths[0] = sequence  # at least one row without padding
    words = _words(tokenizer, config)
    ids, mask, types = (np.zeros(shape, np.int64) for _ in range(3))
    ids[:] = files.pad_token_id
    for row, length in enumerate(lengths):
        place = slice(sequence - length, None) if files.padding_side == "left" else slice(length)
        ids[row, place] = _sentence(random.choice(words, length), tokenizer)
        mask[row, place] = 1
        if (getattr(config, "type_vocab_size", 0) or 0) > 1:
            types[row, place] = (np.arange(length) > random.integers(0, length + 1)).astype(np.int64)
    made = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return Probe(batch, sequence, _rows(batch, sequence), {name: made[name] for name in files.input_names})


def _rows(batch: int, sequence: int) -> tuple[int, ...]:
    if batch * sequence <= _FULL_PROBE_TOKENS or batch <= _ROWS_OF_LARGE_PROBES:
        return tuple(range(batch))
    step = (batch - 1) / (_ROWS_OF_LARGE_PROBES - 1)
    return tuple(round(step * index) for index in range(_ROWS_OF_LARGE_PROBES))


def _words(tokenizer: HfTokenizer, config: HfConfig) -> Array:
    import numpy as np

    size = min(len(tokenizer), int(getattr(config, "vocab_size", len(tokenizer))))
    return np.setdiff1d(np.arange(size), np.asarray(tokenizer.all_special_ids))


def _sentence(words: Array, tokenizer: HfTokenizer) -> Array:
    """Puts the special tokens that the tokenizer gives to an empty text (``[CLS] [SEP]``) around the words."""
    frame = tokenizer("")["input_ids"]
    if len(frame) > 1 and len(words) > 1:
        words[0], words[-1] = frame[0], frame[-1]
    elif len(frame) == 1:
        words[-1 if frame[0] == tokenizer.eos_token_id else 0] = frame[0]
    return words
