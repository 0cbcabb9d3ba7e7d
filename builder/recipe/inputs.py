"""Sections ``inputs`` and ``shapes``: what a request may hold, and for which shapes the model is checked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from builder.recipe.base import Count, Section, ascending


class Inputs(Section):
    """How text becomes tokens."""

    max_length: Count | None = None
    """Tokens per text, special tokens included; longer texts are cut. Left out: sentence_bert_config.json
    where there is one, else the tokenizer's model_max_length, never more than the model has positions."""

    padding: Literal["longest", "buckets"] | None = None
    """How the texts of a batch get one length: that of the longest, or the next of fixed lengths, so that batches form.
    Left out: longest on the CPU, buckets on a GPU."""

    buckets: Annotated[tuple[Count, ...], Field(min_length=1), AfterValidator(ascending)] | None = None
    """The fixed lengths in tokens, ascending; the last is max_length. Left out: 16, 32, 64, … up to max_length."""

    text_pair: bool = False
    """Whether a request also holds TEXT_PAIR, a second text, such as the premise of a hypothesis. Left out: true for
    tasks that take pairs alone."""


class Range(Section):
    """The sizes of one axis: the least, the one to be fast at, and the largest."""

    min: Count | None = None
    """The least size."""

    opt: Count | None = None
    """The size to be fast at."""

    max: Count | None = None
    """The largest size."""


def _default_opt(sizes: dict[str, int]) -> int:
    """8, but within what the recipe says of the least and the largest size."""
    return max(sizes.get("min", 1), min(8, sizes.get("max", 8)))


class BatchRange(Section):
    """The batch sizes: the least, the one to be fast at, and the largest."""

    min: Count = 1
    """The least batch size."""

    max: Count = 32
    """The largest batch size."""

    opt: Count = Field(default_factory=_default_opt)
    """The batch size to be fast at. Left out: 8, but within min and max."""


class ProfileRange(Section):
    """The shapes that an optimisation profile of an engine takes, and those that it is fast at."""

    batch: Range | None = None
    """Texts per batch. Left out, as each of its sizes: as in shapes."""

    sequence: Range | None = None
    """Tokens per text. Left out, as each of its sizes: as in shapes."""


class Shapes(Section):
    """The shapes that the exported model is checked at, and the optimisation profiles of engines."""

    batch: BatchRange = BatchRange()
    """Texts per batch."""

    sequence: Range | None = None
    """Tokens per text. Left out: from 2 to the model's max_length, 64 to be fast at."""

    profiles: Annotated[tuple[ProfileRange, ...], Field(min_length=1, max_length=16)] | None = None
    """Optimisation profiles of engines, all of one largest batch. Left out: one, from batch and sequence; where texts
    are padded to buckets two, for short and for long ones."""
