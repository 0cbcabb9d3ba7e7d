"""Image processors on Pillow, and the pictures they are tried with."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from builder.errors import ModelError
from builder.tools import hf_images, pictures
from tests.models import IMAGE_FAMILIES, write_json

if TYPE_CHECKING:
    from pathlib import Path


def load(folder: Path, **settings: Any) -> Any:
    write_json(folder / hf_images.SETTINGS_FILE, {**IMAGE_FAMILIES["vit"][1], **settings})
    return hf_images.load(folder)


def test_settings_hold_the_defaults_of_the_class(tmp_path: Path) -> None:
    found = hf_images.settings(load(tmp_path))
    assert found == {
        "do_resize": True,
        "size": {"height": 16, "width": 24},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": pytest.approx(1 / 255),
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.25, 0.5],
    }
    assert hf_images.settings(load(tmp_path, do_normalize=False, do_resize=None))["do_resize"] is False


def test_a_setting_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"preprocessor_config\.json: do_pad: True is not understood; known are"):
        hf_images.settings(load(tmp_path, do_pad=True))


def test_pixels_are_those_of_a_pipeline(tmp_path: Path) -> None:
    processor, picture = load(tmp_path), pictures.pictures(1)[0]
    pixels = hf_images.pixels(processor, [pictures.png(picture)])
    assert (pixels.dtype, pixels.shape) == (np.float32, (1, 3, 16, 24))
    np.testing.assert_array_equal(pixels, hf_images.pixels_of(processor, [picture]))


def test_pictures_are_the_same_each_time_and_all_different() -> None:
    made = [picture.tobytes() for picture in pictures.pictures()]
    assert made == [picture.tobytes() for picture in pictures.pictures()]
    assert len({hashlib.sha256(content).digest() for content in made}) == pictures.COUNT
