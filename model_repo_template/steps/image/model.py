"""JPEG, PNG or WebP bytes → the model's pixels, in Triton's Python backend.

In: ``IMAGE`` BYTES [n, 1], one file per row. Out: ``pixel_values`` FP32 [n, 3, H, W].

Images are read as transformers' pipelines do (``load_image``: turned upright by EXIF, then RGB, whatever they were: any
transparency is dropped), then as its image processors on Pillow do. ``settings.json`` has the keys of the model's
``preprocessor_config.json``: do_resize, size, resample, do_center_crop, crop_size, do_rescale, rescale_factor,
do_normalize, image_mean, image_std, do_convert_rgb (images are RGB in any case); ``size`` is {"height", "width"} or
{"shortest_edge"}. Of our own, optionally: ``max_pixels``, above which an image is refused unread: a small file can hold
an image that fills the memory.

``vendor/`` beside this file holds Pillow.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from tritonsmith_step import RefusedError, attempt, load_settings, read, respond, use_vendored

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 89_478_485  # Pillow's own limit: 256 MiB of RGB
KNOWN = (
    *("schema", "max_pixels", "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale"),
    *("rescale_factor", "do_normalize", "image_mean", "image_std", "do_convert_rgb"),
)


class Processor:
    """Makes pixels of images.

    Args:
        settings: the content of ``settings.json``.

    Raises:
        ValueError: a setting that is unknown here: it would be left out, and the pixels be wrong.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        if unknown := sorted(set(settings) - set(KNOWN)):
            raise ValueError(f"settings.json: {unknown[0]} is unknown here; allowed: {', '.join(KNOWN)}")
        size = settings.get("size", {})
        if settings["do_resize"] and set(size) not in ({"height", "width"}, {"shortest_edge"}):
            raise ValueError(f"settings.json: size is {size}; allowed: height and width, or shortest_edge")
        self._settings = settings
        self._max_pixels = settings.get("max_pixels", MAX_PIXELS)
        self._values = self._table()

    def pixels(self, content: bytes) -> np.ndarray:
        """The pixels of one file, FP32 [3, H, W].

        Raises:
            RefusedError: it is no image, damaged, or too large.
        """
        image = self._open(content)
        if self._settings["do_resize"]:
            width, height = self._new_size(image.width, image.height)
            self._check_size(width, height, "would be resized to ")
            image = image.resize((width, height), resample=self._settings["resample"])
        array = np.asarray(image)
        if self._settings.get("do_center_crop"):
            array = center_crop(array, self._settings["crop_size"]["height"], self._settings["crop_size"]["width"])
        return np.stack([self._values[channel][array[:, :, channel]] for channel in range(3)])

    def _open(self, content: bytes) -> Any:
        """The image, upright, in RGB."""
        from PIL import Image, ImageOps

        # Pillow only warns up to twice its limit. Ours is asked below, before anything is decoded.
        Image.MAX_IMAGE_PIXELS = None
        try:
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        except Exception as error:
            raise RefusedError(f"is no image that can be read; allowed: {', '.join(FORMATS)}") from error
        self._check_size(image.width, image.height, "is ")
        try:
            return ImageOps.exif_transpose(image).convert("RGB")
        except Exception as error:
            raise RefusedError(f"is a damaged {image.format}: {error}") from error

    def _check_size(self, width: int, height: int, what: str) -> None:
        if width * height > self._max_pixels:
            raise RefusedError(f"{what}{width} x {height} pixels; allowed: {self._max_pixels} in all")

    def _new_size(self, width: int, height: int) -> tuple[int, int]:
        size = self._settings["size"]
        if "height" in size:
            return size["width"], size["height"]
        short, edge = min(width, height), size["shortest_edge"]
        return int(edge * width / short), int(edge * height / short)

    def _table(self) -> np.ndarray:
        """What each of the 256 values of a channel becomes, FP32 [3, 256]; rounded where transformers rounds."""
        values = np.tile(np.arange(256, dtype=np.float32), (3, 1))
        if self._settings["do_rescale"]:
            values = (values.astype(np.float64) * self._settings["rescale_factor"]).astype(np.float32)
        if self._settings["do_normalize"]:
            mean, std = (np.array(self._settings[key], dtype=np.float32) for key in ("image_mean", "image_std"))
            values = (values - mean[:, None]) / std[:, None]
        return values


def center_crop(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of an image [h, w, 3]; black is added where it is smaller."""
    cropped = np.zeros((height, width, 3), dtype=array.dtype)
    (from_y, to_y), (from_x, to_x) = (
        _overlap(have, want) for have, want in zip(array.shape, (height, width), strict=False)
    )
    cropped[to_y, to_x] = array[from_y, from_x]
    return cropped


def _overlap(have: int, want: int) -> tuple[slice, slice]:
    """Which part of an axis is taken, and where it goes."""
    offset, length = (have - want) // 2, min(have, want)
    taken, put = max(offset, 0), max(-offset, 0)
    return slice(taken, taken + length), slice(put, put + length)


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002 - Triton's signature
        """Loads the vendored Pillow."""
        folder = Path(__file__).absolute().parent
        use_vendored(folder)
        from PIL import Image

        Image.preinit()
        self._processor = Processor(load_settings(folder))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers all requests of a call, in order."""
        return [respond(attempt(self._answer, request)) for request in requests]

    def _answer(self, request: Any) -> dict[str, np.ndarray]:
        images = [self._pixels(row, item) for row, item in enumerate(read(request, "IMAGE", (1,))[:, 0])]
        sizes = [image.shape[1:] for image in images]
        if len(set(sizes)) > 1:
            raise RefusedError(f"IMAGE: the rows become images of different sizes, {sizes}; send them one by one")
        return {"pixel_values": np.stack(images)}

    def _pixels(self, row: int, content: bytes) -> np.ndarray:
        try:
            return self._processor.pixels(content)
        except RefusedError as refused:
            raise RefusedError(f"IMAGE, row {row}: {refused}") from refused
