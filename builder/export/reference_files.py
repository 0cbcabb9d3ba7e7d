"""What a reference stage writes: the samples, and what is expected of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from builder.artifacts import Reference
from builder.core.digest import describe_file
from builder.export.versions import versions
from builder.tools.safetensors_values import save_arrays

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from builder.artifacts import Sample
    from builder.export.tasks import Head
    from builder.tools.opaque import Array

READ_SUFFIXES: Final = (".json", ".safetensors", ".txt", ".model", ".codes")
"""Files of a model that decide its answers."""


def write_reference(
    out: Path,
    head: Head,
    samples: Sequence[Sample],
    tensors: Mapping[str, Array],
    controls: tuple[str, ...],
    probes: Sequence[tuple[int, ...]],
) -> Reference:
    """Writes what :class:`~builder.artifacts.Reference` says.

    Args:
        out: the folder.
        head: how the model does its task.
        samples: what was asked.
        tensors: the content of ``expected.safetensors``.
        controls: names of the negative controls in it.
        probes: shapes of the probes in it.
    """
    _write_samples(samples, out / "samples.jsonl")
    save_arrays(dict(tensors), out / "expected.safetensors")
    return Reference(
        files={name: describe_file(out / name) for name in ("expected.safetensors", "samples.jsonl")},
        outputs=head.outputs,
        controls=controls,
        record={
            "samples": len(samples),
            "dtype": "FP32",
            "probes": [list(shape) for shape in probes],
            "versions": versions("torch", "transformers", "tokenizers"),
        },
        metric=head.metric,
        labels=head.labels,
    )


def _write_samples(samples: Sequence[Sample], path: Path) -> None:
    lines = [json.dumps(sample_json(sample), ensure_ascii=False, sort_keys=True) for sample in samples]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def sample_json(sample: Sample) -> dict[str, str]:
    """A line of ``samples.jsonl``."""
    if sample.image_base64 is not None:
        return {"image_base64": sample.image_base64}
    return {"text": sample.text} | ({} if sample.text_pair is None else {"text_pair": sample.text_pair})
