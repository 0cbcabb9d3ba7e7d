"""The ``tokenizer.json`` that is served: written from a Hugging Face tokenizer, and read without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.tools.opaque import HfTokenizer


def serialise(tokenizer: HfTokenizer) -> str:
    """``tokenizer.json`` of a fast tokenizer as it is in effect, padding and truncation cleared.

    Raises:
        ModelError: special tokens in a text are split, which the file cannot hold.
    """
    from tokenizers import Tokenizer

    if getattr(tokenizer, "split_special_tokens", False):
        raise ModelError("tokenizer_config.json: split_special_tokens is set, which a tokenizer.json cannot hold")
    copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copy.no_padding()
    copy.no_truncation()
    return str(copy.to_str(pretty=False))


def encode(
    path: Path,
    texts: Sequence[tuple[str, ...]],
    max_length: int,
    truncation_side: str,
    truncation: str = "longest_first",
) -> list[dict[str, list[int]]]:
    """As :func:`builder.tools.hf.encode`, by a ``tokenizer.json`` alone."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(max_length, strategy=truncation, direction=truncation_side)
    encoded = tokenizer.encode_batch([text if len(text) > 1 else text[0] for text in texts])
    return [
        {"input_ids": item.ids, "attention_mask": item.attention_mask, "token_type_ids": item.type_ids}
        for item in encoded
    ]
