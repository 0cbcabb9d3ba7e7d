"""The image step against transformers' own image processors on Pillow."""

from __future__ import annotations

import io
import json
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from tests.steps.kit import load_step, model, request

if TYPE_CHECKING:
    from pathlib import Path

STEP = load_step("image")

NORMAL = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
VIT = {
    **NORMAL,
    "do_resize": True,
    "size": {"height": 24, "width": 32},
    "resample": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.25, 0.5],
}
CLIP = {
    **NORMAL,
    "do_resize": True,
    "size": {"shortest_edge": 24},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 20, "width": 30},
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "do_convert_rgb": True,
}
PROCESSORS = {
    "vit": ("ViTImageProcessor", VIT),
    "clip": ("CLIPImageProcessor", CLIP),
    "nearest": ("ViTImageProcessor", {**VIT, "resample": 0}),
    "lanczos": ("ViTImageProcessor", {**VIT, "resample": 1}),
    "raw": ("ViTImageProcessor", {**VIT, "do_rescale": False, "do_normalize": False}),
    "crop alone": ("CLIPImageProcessor", {**CLIP, "do_resize": False}),
}


@pytest.fixture(autouse=True)
def limit_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step lifts it in its own process."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from transformers import AutoImageProcessor

    found = {}
    for name, (kind, settings) in PROCESSORS.items():
        folder = tmp_path_factory.mktemp("processor")
        content = {"image_processor_type": kind, **settings}
        (folder / "preprocessor_config.json").write_text(json.dumps(content))
        found[name] = AutoImageProcessor.from_pretrained(folder, backend="pil")
        assert found[name].backend == "pil"
    return found


def expected(peer: Any, content: bytes) -> np.ndarray:
    """What a pipeline of transformers makes of a file."""
    from transformers.image_utils import load_image

    return peer(load_image(Image.open(io.BytesIO(content))), return_tensors="np")["pixel_values"][0]


def compare(name: str, peers: dict[str, Any], content: bytes) -> None:
    got = STEP.Processor({"schema": 1, **PROCESSORS[name][1]}).pixels(content)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected(peers[name], content), rtol=0, atol=1e-6)


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 30), seed: int = 0) -> Image.Image:
    """Noise and a slope, so that no two places look alike."""
    width, height = size
    noise = np.random.default_rng(seed).integers(0, 128, (height, width, 4))
    slope = np.linspace(0, 127, width).astype(int)[None, :, None] * np.array([1, 0, 1, 1])
    image = Image.fromarray((noise + slope).astype(np.uint8))
    if mode == "I;16":
        return Image.fromarray((np.asarray(image)[:, :, 0].astype(np.uint16)) << 8)
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("size", [(40, 30), (30, 40), (32, 24), (1, 1), (7, 90), (33, 25)])
def test_processors_of_transformers(name: str, size: tuple[int, int], peers: dict[str, Any]) -> None:
    compare(name, peers, encode(picture(size=size)))


@hypothesis_settings(deadline=None, max_examples=60)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 70), st.integers(1, 70))
def test_crops_of_transformers(height: int, width: int, crop_height: int, crop_width: int) -> None:
    from transformers.image_transforms import center_crop
    from transformers.image_utils import ChannelDimension

    array = np.asarray(picture(size=(width, height)))
    wanted = center_crop(array, (crop_height, crop_width), input_data_format=ChannelDimension.LAST)
    np.testing.assert_array_equal(STEP.center_crop(array, crop_height, crop_width), wanted)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_of_png(mode: str, peers: dict[str, Any]) -> None:
    compare("vit", peers, encode(picture(mode)))


def test_a_palette_with_transparency(peers: dict[str, Any]) -> None:
    compare("clip", peers, encode(picture("P"), transparency=0))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_mode_of_jpeg(mode: str, peers: dict[str, Any]) -> None:
    compare("vit", peers, encode(picture(mode), "JPEG"))


def test_webp(peers: dict[str, Any]) -> None:
    compare("vit", peers, encode(picture(), "WEBP"))


def test_exif_turns_the_image(peers: dict[str, Any]) -> None:
    seen = set()
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        content = encode(picture(), "JPEG", exif=exif)
        compare("vit", peers, content)
        seen.add(STEP.Processor({"schema": 1, **VIT}).pixels(content).tobytes())
    assert len(seen) == 8


@pytest.mark.parametrize("change", [{"resample": 3}, {"rescale_factor": 1 / 254}, {"image_std": [0.5, 0.5, 0.5]}])
def test_another_setting_makes_other_pixels(change: dict[str, Any], peers: dict[str, Any]) -> None:
    content = encode(picture())
    got = STEP.Processor({"schema": 1, **VIT, **change}).pixels(content)
    assert np.abs(got - expected(peers["vit"], content)).max() > 1e-3


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels; what follows is never reached."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


UNREADABLE = "is no image that can be read; allowed: JPEG, PNG, WEBP"
REFUSED = {
    "empty": (b"", UNREADABLE),
    "text": (b"not an image", UNREADABLE),
    "gif": (encode(picture(), "GIF"), UNREADABLE),
    "tiff": (encode(picture(), "TIFF"), UNREADABLE),
    "half a jpeg": (encode(picture(), "JPEG")[:-200], "is a damaged JPEG: image file is truncated"),
    "half a png": (encode(picture())[:-200], "is a damaged PNG: "),
    "a little bomb": (bomb(12_000, 9_000), "is 12000 x 9000 pixels; allowed: 89478485 in all"),  # Pillow only warns
    "a bomb": (bomb(100_000, 100_000), "is 100000 x 100000 pixels; allowed: 89478485 in all"),
    "a hair": (encode(picture(size=(1, 9000))), "would be resized to 120 x 1080000 pixels; allowed: 89478485 in all"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_image_is_refused(name: str) -> None:
    content, reason = REFUSED[name]
    processor = STEP.Processor({"schema": 1, **CLIP, "size": {"shortest_edge": 120}})
    with pytest.raises(STEP.RefusedError) as caught:
        processor.pixels(content)
    assert str(caught.value).startswith(reason)


def test_the_limit_can_be_set() -> None:
    content = encode(picture(size=(40, 30)))
    STEP.Processor({"schema": 1, **VIT, "max_pixels": 1200}).pixels(content)
    with pytest.raises(STEP.RefusedError, match="is 40 x 30 pixels; allowed: 1199 in all"):
        STEP.Processor({"schema": 1, **VIT, "max_pixels": 1199}).pixels(content)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"crop_pct": 0.9}, "crop_pct is unknown here"),
        ({"size": {"longest_edge": 5}}, "allowed: height and width, or shortest_edge"),
        ({"schema": 2}, None),
    ],
)
def test_settings_that_would_be_left_out_are_refused(
    changes: dict[str, Any], reason: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=reason or "has schema 2; this step reads 1"):
        model(STEP, tmp_path, {**VIT, **changes}, monkeypatch)


def files(*contents: bytes) -> dict[str, Any]:
    array = np.empty((len(contents), 1), dtype=object)
    array[:, 0] = contents
    return request(IMAGE=array)


def test_a_bad_request_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peers: dict[str, Any]) -> None:
    served = model(STEP, tmp_path, {**VIT, "do_resize": False}, monkeypatch)
    one, two, large = (encode(picture(size=size, seed=seed)) for seed, size in enumerate([(9, 8), (9, 8), (8, 9)]))
    good, bad, mixed = served.execute([files(one, two), files(one, b"?"), files(one, large)])
    assert good.tensors["pixel_values"].shape == (2, 3, 8, 9)
    assert not np.array_equal(*good.tensors["pixel_values"])
    assert bad.error.message == f"IMAGE, row 1: {UNREADABLE}"
    assert mixed.error.message.startswith("IMAGE: the rows become images of different sizes, [(8, 9), (9, 8)]")
