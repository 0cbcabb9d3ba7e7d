"""Warm-up: a real text runs through the model before it is ready, at the batch sizes that matter."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from builder.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np

    from builder.artifacts import Json

LARGER_BATCH: Final = 8


@dataclass(frozen=True, slots=True)
class Warmup:
    """``entries`` of ``model_warmup``, and the content of the ``files`` that they name, in the model's ``warmup/``."""

    entries: tuple[Json, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)


def warmup(encoder: Any, samples: Path, *, text_pair: bool, max_batch_size: int) -> Warmup:  # noqa: ANN401
    """A sample of middling length, alone and in a batch.

    Triton makes ``batch_size`` requests of one row each from an entry, all with the same data, runs them as one batch,
    and puts the batch axis before ``dims`` (``GenerateWarmupData`` in ``src/backend_model_instance.cc`` of
    triton-inference-server/core). A file holds at least as many bytes as ``dims`` say, little endian.

    Args:
        encoder: the step's ``Encoder``.
        samples: ``samples.jsonl``.
        text_pair: whether a request holds a pair.
        max_batch_size: of the model.

    Raises:
        InternalError: no sample gives tokens.
    """
    tokens = _middle(encoder, samples, text_pair=text_pair)
    inputs = {
        name: {"data_type": "TYPE_INT64", "dims": [array.shape[1]], "input_data_file": name}
        for name, array in tokens.items()
    }
    sizes = sorted({1, min(LARGER_BATCH, max_batch_size)})
    return Warmup(
        entries=tuple({"name": f"batch-{size}", "batch_size": size, "inputs": inputs} for size in sizes),
        files={name: array.astype("<i8").tobytes() for name, array in tokens.items()},
    )


def _middle(encoder: Any, samples: Path, *, text_pair: bool) -> dict[str, np.ndarray]:  # noqa: ANN401
    """The model's inputs, [1, length], of the sample whose length is the median."""
    encoded = encoder.encode([[row] for row in _rows(samples, text_pair=text_pair)])
    usable = [answer for answer in encoded if isinstance(answer, dict)]
    if not usable:
        raise InternalError(f"{samples}: no sample gives tokens: {encoded[:1]}")
    usable.sort(key=lambda answer: int(answer["input_ids"].shape[1]))
    middle: dict[str, np.ndarray] = usable[len(usable) // 2]
    return middle


def _rows(samples: Path, *, text_pair: bool) -> Iterator[tuple[str, ...]]:
    # Only at "\n": other separators of Unicode belong to the text.
    for line in samples.read_text(encoding="utf-8").split("\n"):
        if line:
            sample = json.loads(line)
            yield (sample["text"], sample["text_pair"]) if text_pair else (sample["text"],)
