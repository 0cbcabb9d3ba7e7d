"""The stage ``warmup``: a real text as the model's inputs, to run through it before it is ready.

A stage of its own, because it takes the tokenizer and numpy: configs with other serving options are made without them.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from builder.artifacts import WarmupData
from builder.config import tokenize_step
from builder.core.digest import describe_folder, digest_file
from builder.errors import InternalError
from builder.recipe.tasks import IMAGE, TASKS
from builder.tools import templates, wheels
from builder.tools.files import materialise

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np

    from builder.artifacts import Json, Reference, TokenizerFiles
    from builder.recipe import Recipe

LARGER_BATCH: Final = 8
_BYTES: Final = 8  # of an INT64


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Makes tokens of the sample of middling length. :func:`warm_up` makes one from a recipe.

    Args:
        inputs: the recipe's section, as JSON data.
        minimum_length: the least number of tokens that the model is checked at.
    """

    inputs: Mapping[str, Json]
    minimum_length: int
    name: ClassVar[str] = "warmup"
    version: ClassVar[int] = 1

    def fingerprint(self, inputs: tuple[TokenizerFiles, Reference]) -> Mapping[str, Json]:
        tokenizer, reference = inputs
        return {
            "inputs": dict(self.inputs),
            "minimum_length": self.minimum_length,
            "tokenizer": tokenize_step.facts(tokenizer),
            "tokenizer.json": tokenizer.files["tokenizer.json"].sha256,
            "samples": reference.files["samples.jsonl"].sha256,
            "step": digest_file(templates.path(tokenize_step.TEMPLATE)),
            "versions": {"tokenizers": wheels.installed_version("tokenizers")},
        }

    def requires(self, inputs: tuple[TokenizerFiles, Reference]) -> None:
        pass

    def run(self, inputs: tuple[TokenizerFiles, Reference], out: Path) -> WarmupData:
        """Encodes the samples as the step that will serve does.

        Raises:
            InternalError: no sample gives tokens.
        """
        tokenizer, reference = inputs
        values = tokenize_step.settings(tokenizer, self.inputs, self.minimum_length)
        # The step finds its tokenizer by name, beside it.
        folder = materialise(tokenizer.files, out / ".tokenizer")
        try:
            encoder = tokenize_step.load_encoder(folder, values)
        finally:
            shutil.rmtree(folder)
        samples = reference.files["samples.jsonl"].path
        for name, array in _middle(encoder, samples, text_pair=self.inputs["text_pair"]).items():
            (out / name).write_bytes(array.astype("<i8").tobytes())
        return WarmupData(describe_folder(out))

    def ensures(self, inputs: tuple[TokenizerFiles, Reference], output: WarmupData) -> None:
        if set(output.files) != set(inputs[0].input_names):
            raise InternalError(f"warm-up data for {', '.join(output.files)}, not for the model's inputs")


def warm_up(recipe: Recipe) -> WarmUp | None:
    """The stage for a recipe; None where it wants no warm-up, or says itself what that is to be."""
    if TASKS[recipe.task].takes == IMAGE:
        return None  # its pixels are made by a step of a pipeline
    if recipe.serving.model_warmup != "auto" or "model_warmup" in recipe.serving.config:
        return None
    return WarmUp(recipe.inputs.model_dump(mode="json"), tokenize_step.minimum_length(recipe))


def entries(made: WarmupData, max_batch_size: int) -> tuple[Json, ...]:
    """``model_warmup``: the text alone, and in a batch.

    Triton makes ``batch_size`` requests of one row each from an entry, all with the same data, runs them as one batch,
    and puts the batch axis before ``dims`` (``GenerateWarmupData`` in ``src/backend_model_instance.cc`` of
    triton-inference-server/core). A file holds at least as many bytes as ``dims`` say, little endian.

    Args:
        made: the data.
        max_batch_size: of the model.
    """
    inputs = {
        name: {"data_type": "TYPE_INT64", "dims": [file.size // _BYTES], "input_data_file": name}
        for name, file in made.files.items()
    }
    sizes = sorted({1, min(LARGER_BATCH, max_batch_size)})
    return tuple({"name": f"batch-{size}", "batch_size": size, "inputs": inputs} for size in sizes)


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
