"""The tokenizer step's own side: its settings, and its code, which the build runs too."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from builder.core import codec
from builder.errors import UserError
from builder.tools import templates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from builder.artifacts import ImageFiles, Json, TokenizerFiles
    from builder.recipe import Recipe

TEMPLATE: Final = "steps/tokenize/model.py"
SCHEMA: Final = 1
DEFAULT_BUCKETS: Final = (16, 32, 64, 128, 256, 512)
DOUBLING: Final = tuple(16 << power for power in range(20))
"""On GPUs: a text is padded to less than twice its length, however long the model's texts may be."""

_DEFAULT_PADDING: Final = "longest"
_MINIMUM_LENGTH: Final = 2  # the default of shapes.sequence.min


def minimum_length(recipe: Recipe) -> int:
    """The least number of tokens that the model is checked at."""
    sequence = recipe.shapes.sequence
    return (sequence.min if sequence else None) or _MINIMUM_LENGTH


def facts(tokenizer: TokenizerFiles | ImageFiles) -> dict[str, Json]:
    """What of a tokenizer, or of how images are read, goes into ``settings.json``, for a key."""
    return {key: value for key, value in codec.to_json(tokenizer).items() if key not in {"files", "record"}}


def settings(
    tokenizer: TokenizerFiles, inputs: Mapping[str, Json], minimum_length: int, *, gpu: bool = False
) -> dict[str, Json]:
    """The content of ``settings.json``.

    Args:
        tokenizer: the tokenizer for serving.
        inputs: the recipe's section.
        minimum_length: the least number of tokens that the model takes.
        gpu: whether the model runs on a GPU: then its texts are padded to buckets, so that batches form.

    Raises:
        UserError: the buckets do not end at the greatest length.
    """
    return {
        "schema": SCHEMA,
        "input_names": list(tokenizer.input_names),
        "text_pair": inputs["text_pair"],
        "prompt": tokenizer.prompt,
        "strip": tokenizer.strip,
        "lower_case": tokenizer.lower_case,
        "max_length": tokenizer.max_length,
        "minimum_length": min(minimum_length, tokenizer.max_length),
        "truncation_side": tokenizer.truncation_side,
        "padding": padding(inputs, gpu=gpu),
        "buckets": buckets(inputs["buckets"], tokenizer.max_length, DOUBLING if gpu else DEFAULT_BUCKETS),
        "padding_side": tokenizer.padding_side,
        "pad_token_id": tokenizer.pad_token_id,
        "pad_token_type_id": tokenizer.pad_token_type_id,
        **({} if tokenizer.truncation == "longest_first" else {"truncation_strategy": tokenizer.truncation}),
    }


def padding(inputs: Mapping[str, Json], *, gpu: bool) -> str:
    """How the texts of a batch get one length: as the recipe says, else by what runs the model."""
    return str(inputs["padding"] or ("buckets" if inputs["buckets"] or gpu else _DEFAULT_PADDING))


def buckets(asked: Sequence[int] | None, max_length: int, defaults: Sequence[int] = DEFAULT_BUCKETS) -> list[int]:
    """Ascending lengths that end at ``max_length``, so that every text has one.

    Raises:
        UserError: those that are asked for do not end there.
    """
    if asked is None:
        return [*(bucket for bucket in defaults if bucket < max_length), max_length]
    if asked[-1] != max_length:
        raise UserError(
            f"inputs.buckets: the last is {asked[-1]}; it must be {max_length}, the model's greatest length",
            mend=f"end the list with {max_length}, or set inputs.max_length to {asked[-1]}",
        )
    return list(asked)


def lengths(values: Mapping[str, Json]) -> tuple[int, ...]:
    """The lengths that ``settings.json`` can give a batch; empty: any, from ``minimum_length`` to ``max_length``.

    Below the first bucket that holds ``minimum_length`` there is none, for shorter texts are padded to that.
    """
    if values["padding"] != "buckets":
        return ()
    return tuple(bucket for bucket in values["buckets"] if bucket >= values["minimum_length"])


def load_encoder(folder: Path, values: Mapping[str, Json]) -> Any:  # noqa: ANN401 - a class of the template
    """The ``Encoder`` that will serve: the same code, with the same settings, on the installed ``tokenizers``.

    Args:
        folder: holds ``tokenizer.json``.
        values: the content of ``settings.json``.
    """
    return _template().load_encoder(folder, dict(values))


def to_json(values: Mapping[str, Json]) -> bytes:
    """The bytes of ``settings.json``."""
    return (json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


@cache
def _template() -> Any:  # noqa: ANN401 - a module
    return templates.load_step("tokenize")
