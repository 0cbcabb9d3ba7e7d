"""Hugging Face image processors, on Pillow: the ones that need no torchvision, and that the image step is equal to."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

from builder.errors import ModelError
from builder.tools import hf, lean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.artifacts import Json
    from builder.tools.opaque import Array

SETTINGS_FILE: Final = "preprocessor_config.json"

_KEYS: Final = (
    *("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor"),
    *("do_normalize", "image_mean", "image_std"),
)
_NEEDED: Final = ("do_resize", "do_rescale", "do_normalize")
_NEUTRAL: Final = frozenset(
    {"image_processor_type", "feature_extractor_type", "processor_class", "do_convert_rgb", "_processor_class"}
)


def load(folder: Path, *, remote_code: bool = False) -> Any:  # noqa: ANN401 - a transformers image processor
    """The model's image processor.

    Raises:
        ModelError: there is no ``preprocessor_config.json``, or transformers cannot read it.
    """
    with hf.reading(folder, SETTINGS_FILE), hf.quiet():
        auto = lean.transformers().AutoImageProcessor
        processor = auto.from_pretrained(folder, local_files_only=True, trust_remote_code=remote_code, backend="pil")
    if getattr(processor, "backend", "") != "pil":
        raise ModelError(f"{SETTINGS_FILE}: {type(processor).__name__} has no way to work on Pillow alone")
    return processor


def settings(processor: Any) -> dict[str, Json]:  # noqa: ANN401
    """What a processor does, by the keys of ``preprocessor_config.json``, with its class's own defaults.

    Raises:
        ModelError: it does something that these keys do not say.
    """
    values = {key: value for key, value in processor.to_dict().items() if key not in _NEUTRAL}
    for key, value in values.items():
        if key not in _KEYS and value not in (None, False, {}, [], "channels_first"):
            raise ModelError(
                f"{SETTINGS_FILE}: {key}: {value!r} is not understood; known are {', '.join(_KEYS)}",
                mend="take a model whose images are only resized, cropped, rescaled and normalised",
            )
    known = {key: _plain(values[key]) for key in _KEYS if values.get(key) is not None}
    return {**dict.fromkeys(_NEEDED, False), **known}


def pixels(processor: Any, files: Sequence[bytes]) -> Array:  # noqa: ANN401
    """What a pipeline of transformers makes of image files: FP32 [files, 3, height, width]."""
    from PIL import Image
    from transformers.image_utils import load_image

    return pixels_of(processor, [load_image(Image.open(io.BytesIO(content))) for content in files])


def pixels_of(processor: Any, images: Sequence[Any]) -> Array:  # noqa: ANN401
    """As :func:`pixels`, for images in RGB: of Pillow, or arrays UINT8 [height, width, 3]."""
    import numpy as np

    made = [processor(image, return_tensors="np")["pixel_values"][0] for image in images]
    return np.stack(made).astype(np.float32)


def _plain(value: Any) -> Json:  # noqa: ANN401
    """As JSON: sizes are a class of their own, resampling an enumeration."""
    if hasattr(value, "items"):
        return {str(key): int(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [float(item) for item in value]
    return value if isinstance(value, bool | float) else int(value)
