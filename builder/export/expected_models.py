"""The models of a pipeline as transformers runs them: what their tokenizers, processors and networks answer."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from builder.errors import InternalError, ModelError
from builder.export import numpy_heads
from builder.export.model_files import transformer_folder
from builder.export.tasks import read_head
from builder.tools import files, hf, hf_steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from builder.artifacts import ModelParts, TokenizerFiles
    from builder.export.tasks import Head
    from builder.tools.opaque import Array, HfModel, HfTokenizer

Tensors = dict[str, "list[Array]"]
"""Tensor → its rows, without the batch axis; rows may have different lengths: nothing is padded."""

PLACES: Final = ("OFFSETS", "SEQUENCE_IDS", "WORD_IDS")
PIXELS: Final = "pixel_values"

_VALUES_PER_BATCH: Final = 4096 * 64
_FEWEST_TOKENS: Final = 3


class AskedModel:
    """One model, loaded when it is first asked.

    Args:
        parts: the model.
        below: a folder for temporary files.
        stack: closes what is opened.
    """

    def __init__(self, parts: ModelParts, below: Path, stack: ExitStack) -> None:
        self.parts, self._below, self._stack = parts, below, stack

    @property
    def takes_images(self) -> bool:
        return self.parts.tokenizer is None

    @property
    def input_names(self) -> tuple[str, ...]:
        return self._tokenizer_files.input_names

    @cached_property
    def labels(self) -> list[str]:
        """Names of the labels, in the order of the logits."""
        return hf_steps.label_names(self._folder)

    @cached_property
    def tokenizer(self) -> HfTokenizer:
        """The Hugging Face tokenizer."""
        return hf.load_tokenizer(
            self._folder, lower_case=self._head.lower_case, remote_code=self.parts.source.remote_code
        )

    @cached_property
    def tagger(self) -> hf_steps.Tagger:
        """The token-classification pipeline of transformers."""
        return hf_steps.Tagger(self._model, self.tokenizer)

    @property
    def _tokenizer_files(self) -> TokenizerFiles:
        if self.parts.tokenizer is None:
            raise InternalError(f"{self.parts.source.model_id}: a step needs the tokenizer of a model for images")
        return self.parts.tokenizer

    @cached_property
    def _head(self) -> Head:
        return read_head(self.parts.source.files, self.parts.task)

    @cached_property
    def _folder(self) -> Path:
        opened = transformer_folder(self.parts.source, self._head.folder, weights=True, below=self._below)
        return self._stack.enter_context(opened)

    @cached_property
    def _model(self) -> HfModel:
        source = self.parts.source
        return hf.load_model(self._folder, self.parts.task, attention=None, remote_code=source.remote_code)

    @cached_property
    def _weights(self) -> dict[int, numpy_heads.Weights]:
        return numpy_heads.step_weights(self.parts.source.files, self._head.steps)

    @cached_property
    def _processor(self) -> Any:  # noqa: ANN401 - transformers has no types
        names = ("config.json", "preprocessor_config.json")
        found = {name: self.parts.source.files[name].path for name in names if name in self.parts.source.files}
        folder = self._below / f"processor-{id(self)}"
        folder.mkdir()
        return hf_steps.load_image_processor(files.link(found, folder))

    def encode(self, texts: Sequence[tuple[str, ...]], *, cut: bool = False) -> Tensors:
        """Tokens and their places; ``cut``: of a third of each text (of a pair's second, where only that is cut).

        Raises:
            ModelError: a text gives no tokens.
        """
        import numpy as np

        rows = [self._encode(index, text, cut) for index, text in enumerate(texts)]
        names = (*self._tokenizer_files.input_names, *PLACES)
        return {name: [np.asarray(row[name], np.int64) for row in rows] for name in names}

    def ids(self, text: str, count: int) -> list[int]:
        """The first ``count`` token ids of a text, special tokens included."""
        ids: list[int] = hf_steps.encode(self.tokenizer, (text,), count, "longest_first")["input_ids"]
        return ids

    def _encode(self, index: int, text: tuple[str, ...], cut: bool) -> dict[str, Any]:
        try:
            return self._tokens(text, cut)
        except ModelError as error:
            raise ModelError(
                f"sample {index + 1}: {error.message}",
                mend="leave it out of verify.samples: such texts are refused when the model is served",
            ) from error

    def _tokens(self, text: tuple[str, ...], cut: bool) -> dict[str, Any]:
        text = (self._head.prompt + text[0], *text[1:])
        truncation = self.parts.truncation if len(text) > 1 else "longest_first"
        tokens = hf_steps.encode(self.tokenizer, text, self._tokenizer_files.max_length, truncation)
        if not cut:
            return tokens
        second = tokens["SEQUENCE_IDS"].count(1)
        count = len(tokens["input_ids"])
        left = count - second + max(1, second // 3) if truncation == "only_second" else max(_FEWEST_TOKENS, count // 3)
        return hf_steps.encode(self.tokenizer, text, left, truncation)

    def pixels(self, images: Sequence[bytes], *, swapped: bool = False) -> Tensors:
        """What the model's own processor makes of image files."""
        return {PIXELS: [hf_steps.pixels(self._processor, image, swapped=swapped) for image in images]}

    def answer(self, inputs: Tensors) -> Tensors:
        """The model's outputs. Rows of one shape share a batch, so that no answer depends on padding."""
        import numpy as np

        found: dict[int, dict[str, Array]] = {}
        for indices in _alike(inputs):
            batch = {name: np.stack([rows[index] for index in indices]) for name, rows in inputs.items()}
            outputs = self._outputs(batch)
            found |= {index: {name: array[row] for name, array in outputs.items()} for row, index in enumerate(indices)}
        return {name: [found[index][name] for index in range(len(found))] for name in found[0]}

    def _outputs(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        values = hf.run_outputs(self._model, batch, self._head.takes)
        outputs = numpy_heads.apply(self._head.steps, self._weights, values, batch.get("attention_mask"))
        return dict(zip(self._head.outputs, outputs, strict=True))


def _alike(inputs: Tensors) -> Iterator[list[int]]:
    """Indices of rows of equal shapes, some at a time."""
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for index, row in enumerate(zip(*inputs.values(), strict=True)):
        groups.setdefault(tuple(array.shape for array in row), []).append(index)
    for shapes, indices in groups.items():
        # A token stands for more than its number: a row of the model's width.
        values = shapes[0][0] * 64 if len(shapes[0]) == 1 else _size(shapes[0])
        size = max(1, _VALUES_PER_BATCH // max(1, values))
        yield from (indices[start : start + size] for start in range(0, len(indices), size))


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size
