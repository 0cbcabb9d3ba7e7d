"""What is sent: the samples that ship with tritonsmith."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.verify.load import typical
from builder.verify.samples import load_samples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from builder.tools.perf_analyzer import Value

TOKENS = 128  # a request, as in the peers' published comparisons
_REQUESTS = 16


def texts() -> list[Mapping[str, Value]]:
    """One text per request, of the lengths and in the order that the build's own sweep uses."""
    return [{"TEXT": sample.text} for sample in typical(load_samples(None, text_pair=False))]


def long_texts(tokenizer_path: Path, input_names: Sequence[str]) -> list[Mapping[str, Value]]:
    """Requests of exactly :data:`TOKENS` token ids without padding: samples joined, and cut to that length.

    Args:
        tokenizer_path: the archive's ``tokenizer.json``.
        input_names: what the model takes.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    tokenizer.enable_truncation(TOKENS)
    samples = [sample.text for sample in load_samples(None, text_pair=False)]
    rows: list[Mapping[str, Value]] = []
    for first in range(_REQUESTS):
        encoded = tokenizer.encode(" ".join(samples[first:] + samples[:first]))
        values = {
            "input_ids": encoded.ids,
            "attention_mask": encoded.attention_mask,
            "token_type_ids": encoded.type_ids,
        }
        rows.append({name: values[name] for name in input_names})
    return rows
