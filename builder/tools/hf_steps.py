"""What transformers itself does before and after a model: places of tokens, entities, pixels, names of labels."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

from builder.errors import ModelError
from builder.tools import hf

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.artifacts import Json
    from builder.tools.opaque import Array, HfModel, HfTokenizer


def encode(tokenizer: HfTokenizer, text: tuple[str, ...], max_length: int, truncation: str) -> dict[str, Any]:
    """Tokens of a text, or a pair, with the places that they were made of.

    Returns:
        What the tokenizer gives, and ``OFFSETS`` (first and last character), ``SEQUENCE_IDS`` and ``WORD_IDS``, where
        -1 stands for a token that is of no text.

    Raises:
        ModelError: the text gives no tokens, or there is no room for the second.
    """
    with hf.quiet():
        try:
            found = tokenizer(*text, truncation=truncation, max_length=max_length, return_offsets_mapping=True)
        except Exception as error:  # the tokenizers library raises Exception itself
            raise ModelError(f"{text[0][:40]!r} does not fit into {max_length} tokens: {error}") from error
    if not found["input_ids"]:
        raise ModelError(f"{text[0][:40]!r} gives no tokens: the model has no answer to it")
    tokens = dict(found)
    tokens["OFFSETS"] = [list(place) for place in tokens.pop("offset_mapping")]
    for name, values in (("SEQUENCE_IDS", found.sequence_ids()), ("WORD_IDS", found.word_ids())):
        tokens[name] = [-1 if value is None else value for value in values]
    return tokens


def label_names(folder: Path) -> list[str]:
    """Names of a model's labels, in the order of its logits."""
    names = hf.load_config(folder).id2label
    return [names[index] for index in range(len(names))]


class Tagger:
    """``pipeline("token-classification")``, from the logits on.

    Args:
        model: what :func:`builder.tools.hf.load_model` returned.
        tokenizer: its tokenizer.
    """

    def __init__(self, model: HfModel, tokenizer: HfTokenizer) -> None:
        from transformers import TokenClassificationPipeline

        self._pipeline: Any = TokenClassificationPipeline(model=model, tokenizer=tokenizer, device="cpu")

    def entities(
        self, text: str, ids: Sequence[int], special: Array, offsets: Array, logits: Array, strategy: str
    ) -> list[dict[str, Json]]:
        """The entities of a text, but with each ``word`` as it stands in the text.

        Args:
            text: the text.
            ids: of its tokens.
            special: INT64 [tokens], 1 for those that are of no text.
            offsets: INT64 [tokens, 2].
            logits: FP32 [tokens, labels].
            strategy: none, simple, first, max or average.
        """
        import torch
        from transformers.pipelines.token_classification import AggregationStrategy

        outputs = {
            "logits": torch.from_numpy(logits.copy())[None],
            "sentence": text,
            "input_ids": torch.tensor([ids]),
            "offset_mapping": torch.from_numpy(offsets.copy())[None],
            "special_tokens_mask": torch.from_numpy(special.copy())[None],
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # how it finds words without the tokenizer's help
            found = self._pipeline.postprocess([outputs], AggregationStrategy(strategy))
        return [{key: _plain(value) for key, value in one.items()} | _place(text, one) for one in found]


def _place(text: str, entity: dict[str, Any]) -> dict[str, Json]:
    start, end = int(entity["start"]), int(entity["end"])
    return {"word": text[start:end], "start": start, "end": end}


def _plain(value: Any) -> Json:  # noqa: ANN401 - transformers has no types
    return value.item() if hasattr(value, "item") else value


def load_image_processor(folder: Path) -> Any:  # noqa: ANN401
    """The model's image processor, that which works with Pillow.

    Raises:
        ModelError: ``preprocessor_config.json`` cannot be read.
    """
    from transformers import AutoImageProcessor

    try:
        with hf.quiet():
            return AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
    except Exception as error:
        reason = " ".join(str(error).replace(str(folder), "the model").split())
        raise ModelError(f"preprocessor_config.json cannot be loaded by transformers: {reason[:500]}") from error


def pixels(processor: Any, content: bytes, *, swapped: bool = False) -> Array:  # noqa: ANN401
    """What a pipeline of transformers makes of an image file, FP32 [3, height, width].

    Args:
        processor: what :func:`load_image_processor` returned.
        content: the file.
        swapped: takes blue for red, as code for another library would.

    Raises:
        ModelError: it is no image that can be read.
    """
    import numpy as np
    from PIL import Image
    from transformers.image_utils import load_image

    try:
        image = load_image(Image.open(io.BytesIO(content)))
    except Exception as error:
        raise ModelError(f"an image cannot be read: {error}") from error
    if swapped:
        image = Image.merge("RGB", image.split()[::-1])
    return np.asarray(processor(image, return_tensors="np")["pixel_values"][0], np.float32)
