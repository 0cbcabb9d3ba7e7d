"""What a model is traced with: token ids, or pixels, of shapes in which no axis can be taken for another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from builder.artifacts import ImageFiles, TokenizerFiles

if TYPE_CHECKING:
    from builder.artifacts import Json
    from builder.tools.opaque import Array, HfModel

Files: TypeAlias = TokenizerFiles | ImageFiles
"""How a request becomes the model's inputs."""

_BATCH: Final = 3
_SEQUENCE: Final = 7
_CHANNELS: Final = 3
_CHANNELS_BATCH: Final = 2  # not the number of channels


def facts(made: Files) -> dict[str, Json]:
    """What of them decides the graph."""
    if isinstance(made, ImageFiles):
        return {"inputs": list(made.input_names), "example": list(_image_shape(made))}
    return {"inputs": list(made.input_names), "padding_side": made.padding_side, "example": list(_text_shape(made))}


def padding_side(made: Files) -> str:
    """Left or right; empty for what is never padded."""
    return made.padding_side if isinstance(made, TokenizerFiles) else ""


def arrays(model: HfModel, made: Files) -> dict[str, Array]:
    """Inputs by name: token ids INT64 [batch, sequence] without padding, or pixels FP32 [batch, 3, height, width].

    The last token of each row is an end-of-sequence token where the model has one.
    """
    import numpy as np

    if isinstance(made, ImageFiles):
        return {name: np.zeros(_image_shape(made), np.float32) for name in made.input_names}
    shape = _text_shape(made)
    end = getattr(model.config, "eos_token_id", None)
    special = {end, made.pad_token_id}
    ids = np.full(shape, next(token for token in range(5, 9) if token not in special), np.int64)
    if isinstance(end, int):  # bart pools there, and finds it by its id
        ids[:, -1] = end
    values = {"input_ids": ids, "attention_mask": np.ones(shape, np.int64), "token_type_ids": np.zeros(shape, np.int64)}
    return {name: values[name] for name in made.input_names}


def _image_shape(made: ImageFiles) -> tuple[int, int, int, int]:
    return _CHANNELS_BATCH, _CHANNELS, made.height, made.width


def _text_shape(made: TokenizerFiles) -> tuple[int, int]:
    # Batch and sequence differ, and are not 0 or 1, so that the tracer cannot take one for the other or for a constant.
    return _BATCH, _SEQUENCE if made.max_length >= _SEQUENCE else max(2, made.max_length - 1)
