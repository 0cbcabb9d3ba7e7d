"""Warm-up of an engine: the text of the stage ``warmup`` at shapes that requests will have.

A profile's kernels are loaded when its context first runs, so each profile is run once, at its optimal shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.tools import engine_profiles as profiles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.artifacts import Json, Profile, TokenizerFiles, WarmupData
    from builder.config.engines import EngineFacts

_BYTES: Final = 8  # of an INT64


@dataclass(frozen=True, slots=True)
class Warmed:
    """``model_warmup``, and the content of the files that it names, by their names in ``warmup/``."""

    entries: tuple[Json, ...]
    files: Mapping[str, bytes]


def warmed(made: WarmupData, tokenizer: TokenizerFiles, facts: EngineFacts, max_batch_size: int) -> Warmed:
    """Pads or cuts the text to the lengths that are warmed up.

    Args:
        made: its tokens, [length], by the names of the model's inputs.
        tokenizer: tells with what texts are padded, and on which side.
        facts: of the engine.
        max_batch_size: of the model.
    """
    tokens = {name: file.path.read_bytes() for name, file in made.files.items()}
    files: dict[str, bytes] = {}
    entries: list[Json] = []
    for number, (batch, length) in enumerate(_shapes(facts, max_batch_size)):
        named = {name: f"{name}-{length}" for name in tokens}
        files |= {named[name]: _fit(values, length, name, tokenizer) for name, values in tokens.items()}
        inputs = {
            name: {"data_type": "TYPE_INT64", "dims": [length], "input_data_file": file} for name, file in named.items()
        }
        entries.append({"name": f"shape-{number}", "batch_size": batch, "inputs": inputs})
    return Warmed(tuple(entries), dict(sorted(files.items())))


def _shapes(facts: EngineFacts, max_batch_size: int) -> list[tuple[int, int]]:
    """Batch and length: one short text alone, and what each profile is fastest at, as far as it can come."""
    found = [(1, facts.lengths[0])] if facts.lengths else []
    found += [
        (min(profile.batch[1], max_batch_size), length)
        for profile in facts.profiles
        if (length := _optimal(profile, facts)) is not None
    ]
    return list(dict.fromkeys(found))


def _optimal(profile: Profile, facts: EngineFacts) -> int | None:
    """The length that is nearest to a profile's optimal one; None: the profile gets no request."""
    within = [length for length in facts.lengths if profiles.holds(profile, length)]
    if not within or profile.sequence is None:
        return None
    best = profile.sequence[1]
    if not facts.fixed:
        return min(max(best, within[0]), within[-1])
    return min(within, key=lambda length: (abs(length - best), length))


def _fit(values: bytes, length: int, name: str, tokenizer: TokenizerFiles) -> bytes:
    """Little-endian values of one length, padded as the tokenizer step pads them."""
    fills = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    missing = length - len(values) // _BYTES
    if missing <= 0:
        return values[: length * _BYTES]
    padding = fills.get(name, 0).to_bytes(_BYTES, "little", signed=True) * missing
    return padding + values if tokenizer.padding_side == "left" else values + padding
