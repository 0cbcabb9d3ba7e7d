"""The processor stage: the Hugging Face image processor as the settings of the image step.

What the tokenizer stage is for text. The step's own code is asked, and its pixels must be those of transformers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from builder.artifacts import ImageFiles
from builder.core.digest import describe_file, digest_file
from builder.errors import InternalError, ModelError
from builder.export.model_files import code_files, digests, needed_memory, transformer_folder
from builder.export.tasks import read_head
from builder.export.versions import versions
from builder.tools import hf_images, pictures, templates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from builder.artifacts import Json, Source
    from builder.tools.opaque import Array

STEP: Final = "image"
TOLERANCE: Final = 1e-5
"""Largest difference of a pixel's value; one step of 256 is 0.004 and more after normalisation."""

_SCHEMA: Final = 1
_PICTURES: Final = 8


@dataclass(frozen=True)
class Processor:
    """Makes ``settings.json`` of the image step: exactly the pixels of ``AutoImageProcessor`` on Pillow.

    Args:
        task: one that takes images.
    """

    task: str
    name: ClassVar[str] = "processor"
    version: ClassVar[int] = 1
    apart: ClassVar[bool] = True

    def fingerprint(self, inputs: Source) -> Mapping[str, Json]:
        return {
            "task": self.task,
            "files": digests(inputs.files, [hf_images.SETTINGS_FILE, "config.json", *code_files(inputs)]),
            "step": [digest_file(file) for file in templates.step_files(STEP)],
            "versions": versions("transformers", "pillow", "numpy"),
        }

    def requires(self, inputs: Source) -> None:
        read_head(inputs.files, self.task)
        if hf_images.SETTINGS_FILE not in inputs.files:
            raise ModelError(
                f"{inputs.model_id}: the model has no {hf_images.SETTINGS_FILE}",
                mend="save the image processor beside the model with processor.save_pretrained()",
            )

    def memory(self, inputs: Source) -> int:
        return needed_memory(inputs, copies=0)

    def run(self, inputs: Source, out: Path) -> ImageFiles:
        with transformer_folder(inputs, "", weights=False, below=out) as folder:
            processor = hf_images.load(folder, remote_code=inputs.remote_code)
        settings = {"schema": _SCHEMA, **hf_images.settings(processor)}
        height, width = _size(settings)
        samples = [pictures.png(picture) for picture in pictures.pictures(_PICTURES)]
        _agree(settings, samples, hf_images.pixels(processor, samples))
        path = out / "settings.json"
        path.write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        record = {"class": type(processor).__name__}
        return ImageFiles({path.name: describe_file(path)}, height, width, record=record)

    def ensures(self, inputs: Source, output: ImageFiles) -> None:  # noqa: ARG002 - a stage's signature
        if min(output.height, output.width) < 1:
            raise InternalError(f"images of {output.height} x {output.width} pixels")


def _size(settings: Mapping[str, Json]) -> tuple[int, int]:
    """Height and width that every image gets.

    Raises:
        ModelError: images keep their own proportions: they could not share a batch, nor be traced.
    """
    key = "crop_size" if settings.get("do_center_crop") else "size"
    size = settings.get(key, {}) if key == "crop_size" or settings["do_resize"] else {}
    if set(size) != {"height", "width"}:
        raise ModelError(
            f"{hf_images.SETTINGS_FILE}: no fixed size: {key} is {size or 'not used'}; allowed: a height and a width",
            mend="take a model whose images are resized or cropped to a height and a width",
        )
    return size["height"], size["width"]


def _agree(settings: Mapping[str, Json], files: Sequence[bytes], expected: Array) -> None:
    """Compares the step with the image processor of transformers.

    Raises:
        ModelError: the processor does something that its settings do not say.
    """
    import numpy as np

    try:
        step = templates.load_step(STEP).Processor(dict(settings))
    except (KeyError, ValueError) as error:
        raise ModelError(f"{hf_images.SETTINGS_FILE}: the image step cannot do this: {error}") from error
    for content, wanted in zip(files, expected, strict=True):
        got = step.pixels(content)
        difference = float(np.abs(got - wanted).max()) if got.shape == wanted.shape else float("inf")
        if difference > TOLERANCE:
            raise ModelError(
                f"{hf_images.SETTINGS_FILE}: the image processor of transformers and the image step differ by "
                f"{difference:.3g}: it does more than its settings say",
                mend="take a model whose images are only resized, cropped, rescaled and normalised",
            )
