"""Weights in pickle files → safetensors, through torch's restricted unpickler: it makes tensors, and runs nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from builder.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

_MEND: Final = "convert it where you trust it, with model.save_pretrained(folder)"


def convert(pickles: Sequence[Path], out: Path) -> Path:
    """Writes the tensors of ``pickles`` as ``model.safetensors``, or as shards with an index when there are several.

    Returns:
        ``out``, an existing empty folder.

    Raises:
        ModelError: a file is damaged, or holds something else than a mapping of names to tensors.
        OSError: ``out`` cannot be written.
    """
    from safetensors.torch import save_file

    if len(pickles) == 1:
        save_file(_load(pickles[0]), out / "model.safetensors", metadata={"format": "pt"})
        return out
    weight_map: dict[str, str] = {}
    for number, path in enumerate(pickles, start=1):
        tensors, name = _load(path), f"model-{number:05}-of-{len(pickles):05}.safetensors"
        save_file(tensors, out / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
    index = {"metadata": {}, "weight_map": weight_map}
    (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=1, sort_keys=True), encoding="utf-8")
    return out


def _load(path: Path) -> dict[str, Tensor]:
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{path}: cannot be read as a pickle of tensors alone: {reason}",
            mend=_MEND,
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{path}: must hold a mapping of names to tensors", mend=_MEND)
    # safetensors takes no two tensors in one piece of memory: tied weights are written twice.
    return {str(name): tensor.detach().clone().contiguous() for name, tensor in state.items()}
