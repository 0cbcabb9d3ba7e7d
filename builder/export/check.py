"""The check stage: the bound model, in onnxruntime, against the reference at shapes that were not traced."""

from __future__ import annotations

import logging
import math
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from builder.errors import ModelError
from builder.export.model_files import LIBRARIES_BYTES
from builder.export.versions import versions
from builder.tools.files import materialise
from builder.tools.onnxruntime import Session
from builder.tools.safetensors_values import load_arrays

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.artifacts import Json, OnnxModel, Reference
    from builder.tools.opaque import Array

log = logging.getLogger(__name__)

TOLERANCE: Final = 1e-4
"""Largest absolute difference, relative to the largest absolute value that is expected, or to 1 if that is less."""

COSINE: Final = 0.999999
"""Least cosine of an embedding: it may stand in for the tolerance, which is tight for embeddings of a large norm."""

_HIDDEN_OF_A_MEGABYTE: Final = 40
"""Hidden size of a transformer of 1 MB, from above: it grows with the root of the weights (MiniLM 384 at 91 MB,
bert-base 768 at 440 MB, bert-large 1024 at 1340 MB). A head has at least 32 of it."""


@dataclass(frozen=True)
class Check:
    """Runs the model at the reference's probes: a batch or a length that the trace froze shows here."""

    name: ClassVar[str] = "check"
    version: ClassVar[int] = 1
    apart: ClassVar[bool] = True

    def fingerprint(self, inputs: tuple[OnnxModel, Reference]) -> Mapping[str, Json]:
        model, reference = inputs
        return {
            "model": {name: file.sha256 for name, file in model.files.items()},
            "reference": reference.files["expected.safetensors"].sha256,
            "tolerance": [TOLERANCE, COSINE],
            "versions": versions("onnxruntime", "numpy"),
        }

    def requires(self, inputs: tuple[OnnxModel, Reference]) -> None:
        pass

    def memory(self, inputs: tuple[OnnxModel, Reference]) -> int:
        """onnxruntime: the weights mapped and packed for its kernels, and what it computes of the largest probe.

        Measured for a batch of 32: MiniLM 222, 492 and 1171 MB at 64, 256 and 512 tokens; bert-large 2124 MB at 128.
        """
        model, reference = inputs
        weights = sum(file.size for file in model.files.values())
        hidden = _HIDDEN_OF_A_MEGABYTE * math.sqrt(weights / 1e6)
        shapes = [(int(batch), _length(axes)) for batch, *axes in reference.record["probes"]]
        values = (batch * length * (12 * hidden + 2 * hidden / 32 * length) for batch, length in shapes)
        return LIBRARIES_BYTES + 2 * weights + int(4 * max(values, default=0))

    def run(self, inputs: tuple[OnnxModel, Reference], out: Path) -> OnnxModel:
        model, reference = inputs
        expected = load_arrays(reference.files["expected.safetensors"].path)
        with tempfile.TemporaryDirectory(dir=out, prefix=".model-") as temporary:
            session = Session(materialise(model.files, Path(temporary)) / "model.onnx")
            count = len({name.split(".")[1] for name in expected if name.startswith("probe.")})
            checks = [_check(session, _probe(expected, index), model) for index in range(count)]
        return replace(model, record={**model.record, "checks": checks})

    def ensures(self, inputs: tuple[OnnxModel, Reference], output: OnnxModel) -> None:  # noqa: ARG002 - a stage's signature
        if not output.record["checks"]:
            raise ModelError("the reference has no probes: dynamic shapes are not proven")


def _length(axes: Sequence[int]) -> int:
    """Tokens of a text; of an image (channels, height, width) its patches of 8 by 8 pixels."""
    return int(axes[0]) if len(axes) == 1 else math.prod(map(int, axes[1:])) // 64


def _probe(expected: Mapping[str, Array], index: int) -> dict[str, Array]:
    prefix = f"probe.{index}."
    return {name.removeprefix(prefix): value for name, value in expected.items() if name.startswith(prefix)}


def _check(session: Session, probe: Mapping[str, Array], model: OnnxModel) -> Json:
    inputs = _inputs(probe, [tensor.name for tensor in model.inputs])
    outputs = [tensor.name for tensor in model.outputs]
    batch, *axes = inputs[model.inputs[0].name].shape
    shape = f"batch {batch}, " + (f"sequence {axes[0]}" if len(axes) == 1 else " x ".join(map(str, axes)))
    began = time.monotonic()
    try:
        actual = session.run(inputs, outputs)
    except ModelError as error:
        raise ModelError(
            f"at {shape}: {error.message}", mend="narrow shapes in the recipe to what the model can do"
        ) from error
    seconds = time.monotonic() - began
    if seconds > 2:
        log.info("check: %s: %.1f s", shape, seconds)
    differences = {}
    for tensor in model.outputs:
        # An axis of tokens is the only one that is dynamic besides the batch. What stands at padding means nothing.
        per_token = tensor.shape[1:2] == (-1,) and probe[tensor.name].shape[1] == axes[0]
        mask = probe["attention_mask"] if per_token else None
        differences[tensor.name] = _compare(
            tensor.name, probe[tensor.name], actual[tensor.name], probe["rows"], shape, mask
        )
    size = {"sequence": int(axes[0])} if len(axes) == 1 else {"pixels": [int(axis) for axis in axes]}
    return {"batch": int(batch), **size, "rows": len(probe["rows"]), "difference": differences}


def _inputs(probe: Mapping[str, Array], names: list[str]) -> dict[str, Array]:
    """A probe's inputs; where it says how large its batch is, its rows are repeated up to that."""
    import numpy as np

    inputs = {name: probe[name] for name in names}
    if "batch" not in probe:
        return inputs
    return {name: np.resize(value, (int(probe["batch"][0]), *value.shape[1:])) for name, value in inputs.items()}


def _compare(name: str, expected: Array, actual: Array, rows: Array, shape: str, mask: Array | None) -> float:
    """The largest difference, relative as :data:`TOLERANCE` says; of a per-token output, where ``mask`` is 1.

    Raises:
        ModelError: the output has another shape, or differs.
    """
    import numpy as np

    if len(actual) <= rows.max() or actual[rows].shape != expected.shape:
        raise ModelError(
            f"{name} at {shape}: shape {list(actual.shape)}, where transformers gives {list(expected.shape[1:])} a "
            "text: the traced graph is not dynamic",
        )
    actual = actual[rows]
    if mask is not None:
        attended = mask[rows].astype(bool)
        expected, actual = expected[attended], actual[attended]
    scale = max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(actual - expected).max()) / scale
    if difference <= TOLERANCE or (name == "EMBEDDING" and _least_cosine(expected, actual) >= COSINE):
        return difference
    raise ModelError(
        f"{name} at {shape}: differs from transformers by {difference:.2g} (relative to {scale:.3g}); "
        f"allowed: {TOLERANCE:g}: the traced graph does not compute what the model does at this shape",
        mend="report the architecture; torch's exporter cannot trace it right",
    )


def _least_cosine(expected: Array, actual: Array) -> float:
    import numpy as np

    norms = np.linalg.norm(expected, axis=-1) * np.linalg.norm(actual, axis=-1)
    return float(((expected * actual).sum(axis=-1) / np.maximum(norms, np.finfo(np.float32).tiny)).min())
