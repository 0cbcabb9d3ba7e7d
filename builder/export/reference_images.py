"""The reference stage for images: what the Hugging Face model answers to them, and what a wrong build would answer."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from builder.core.digest import digest_json
from builder.errors import ModelError
from builder.export import numpy_heads
from builder.export.model_files import code_files, digests, needed_memory, transformer_folder
from builder.export.reference_files import READ_SUFFIXES, sample_json, write_reference
from builder.export.tasks import Head, read_head
from builder.export.versions import versions
from builder.tools import hf, hf_images

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from builder.artifacts import ImageFiles, Json, Reference, Sample, Source
    from builder.tools.opaque import Array, HfModel

_BATCH: Final = 8
_SEED: Final = 20
_DISTINCT: Final = 2  # images of a probe, which are repeated up to its batch: pixels are large


@dataclass(frozen=True)
class ReferImages:
    """Asks the Hugging Face model on the CPU in FP32: with its own image processor, and with numpy behind it.

    Args:
        task: one that takes images.
        batch: smallest and largest batch of the recipe.
    """

    task: str
    batch: tuple[int, int] = (1, 32)
    name: ClassVar[str] = "reference"
    version: ClassVar[int] = 1
    apart: ClassVar[bool] = True

    def fingerprint(self, inputs: tuple[Source, ImageFiles, Sequence[Sample]]) -> Mapping[str, Json]:
        source, images, samples = inputs
        return {
            "task": self.task,
            "batch": list(self.batch),
            "source": {name: file.sha256 for name, file in source.files.items() if name.endswith(READ_SUFFIXES)},
            "code": digests(source.files, code_files(source)),
            "size": [images.height, images.width],
            "settings": images.files["settings.json"].sha256,
            "samples": digest_json([sample_json(sample) for sample in samples]),
            "versions": versions("torch", "transformers", "pillow", "numpy", "safetensors"),
        }

    def requires(self, inputs: tuple[Source, ImageFiles, Sequence[Sample]]) -> None:
        samples = inputs[2]
        if not samples or any(sample.image_base64 is None for sample in samples):
            raise ModelError(f"{self.task} takes images, and a sample is none", mend="name images in verify.samples")

    def memory(self, inputs: tuple[Source, ImageFiles, Sequence[Sample]]) -> int:
        """All weights, and what is computed from a batch."""
        return needed_memory(inputs[0], copies=1.25)

    def run(self, inputs: tuple[Source, ImageFiles, Sequence[Sample]], out: Path) -> Reference:
        source, images, samples = inputs
        head = read_head(source.files, self.task)
        settings = json.loads(images.files["settings.json"].path.read_text(encoding="utf-8"))
        with transformer_folder(source, "", weights=True, below=out) as folder, hf.one_thread():
            processor = hf_images.load(folder, remote_code=source.remote_code)
            # Not eager attention, which is what is traced: what transformers itself would take.
            model = hf.load_model(folder, self.task, attention=None, remote_code=source.remote_code)
            pixels = hf_images.pixels(processor, [base64.b64decode(sample.image_base64 or "") for sample in samples])
            tensors = _named(head, _answer(model, head, pixels))
            wrong = _wrong(pixels, settings)
            for control, values in wrong.items():
                tensors |= _named(head, _answer(model, head, values), f"control.{control}.")
            shapes = self._shapes()
            for index, count in enumerate(shapes):
                tensors |= _probe(model, head, index, count, pixels.shape[1:])
        return write_reference(
            out, head, samples, tensors, tuple(wrong), [(count, *pixels.shape[1:]) for count in shapes]
        )

    def ensures(self, inputs: tuple[Source, ImageFiles, Sequence[Sample]], output: Reference) -> None:
        pass

    def _shapes(self) -> list[int]:
        """Batches from the smallest to the largest, each once."""
        least, most = self.batch
        return list(dict.fromkeys([least, (least + most + 1) // 2, most]))


def _answer(model: HfModel, head: Head, pixels: Array) -> tuple[Array, ...]:
    import numpy as np

    batches = [
        numpy_heads.apply(
            head.steps, {}, hf.run_outputs(model, {"pixel_values": pixels[at : at + _BATCH]}, head.takes), None
        )
        for at in range(0, len(pixels), _BATCH)
    ]
    return tuple(np.concatenate(values) for values in zip(*batches, strict=True))


def _named(head: Head, values: Sequence[Array], prefix: str = "") -> dict[str, Array]:
    return {prefix + name: value for name, value in zip(head.outputs, values, strict=True)}


def _wrong(pixels: Array, settings: Mapping[str, Json]) -> dict[str, Array]:
    """Pixels as a wrong build would make them: upside down, blue for red, and without (or with) normalisation."""
    import numpy as np

    mean, std = (
        np.asarray(settings.get(key, [0.5] * 3), np.float32).reshape(1, 3, 1, 1) for key in ("image_mean", "image_std")
    )
    normal = pixels * std + mean if settings["do_normalize"] else (pixels - mean) / std
    return {
        "flipped": np.ascontiguousarray(pixels[:, :, ::-1]),
        "swapped_channels": np.ascontiguousarray(pixels[:, ::-1]),
        "wrong_normalisation": normal.astype(np.float32),
    }


def _probe(model: HfModel, head: Head, index: int, batch: int, shape: tuple[int, ...]) -> dict[str, Array]:
    """Random pixels, to be repeated up to a batch that was not traced, and the answers of the first and the last."""
    import numpy as np

    random = np.random.Generator(np.random.PCG64([_SEED, index]))
    pixels = random.standard_normal((min(batch, _DISTINCT), *shape), dtype=np.float32)
    rows = np.unique(np.asarray([0, batch - 1], np.int64))
    answers = _named(head, _answer(model, head, pixels[rows % len(pixels)]))
    named = {"pixel_values": pixels, **answers, "rows": rows, "batch": np.asarray([batch], np.int64)}
    return {f"probe.{index}.{name}": value for name, value in named.items()}
