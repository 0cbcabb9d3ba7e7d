"""Whether the models that both sides exported give equal answers."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from builder.artifacts import File
from builder.errors import GateError
from builder.tools.files import materialise

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

_COSINE = 0.999999


def compare(folder: Path, ours: str, peers: Sequence[str]) -> float:
    """The smallest cosine between the answers of tritonsmith's cold model and of each of the peers'.

    Raises:
        GateError: the answers differ, or answers to other texts would have passed too.
    """
    files = json.loads((folder / "cold.json").read_text(encoding="utf-8"))["model"]["files"]
    with tempfile.TemporaryDirectory(dir=folder / ours) as whole:
        tree = {name: File(Path(file["path"]), file["sha256"], file["size"]) for name, file in files.items()}
        mine = _embeddings(materialise(tree, Path(whole)) / "model.onnx")
    smallest = 1.0
    for side in peers:
        theirs = _embeddings(folder / side.replace(" ", "-") / "model.onnx")
        smallest = min(smallest, float((mine * theirs).sum(1).min()))
        control = float((mine * theirs[::-1]).sum(1).max())
        if smallest < _COSINE or control >= _COSINE:
            raise GateError(
                f"export: {side}: cosine {smallest}, reversed answers {control}; must be {_COSINE} and less"
            )
    return round(smallest, 9)


def _embeddings(model: Path) -> np.ndarray:
    """Sentence embeddings of seeded token ids, some padded, at a shape that was not traced: [4, dimension]."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    ids = np.random.default_rng(0).integers(1000, 20000, (4, 33))
    mask = (np.arange(33) < np.array([[33], [20], [7], [2]])).astype(np.int64)
    fed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    (output,) = session.run(
        [session.get_outputs()[0].name], {item.name: fed[item.name] for item in session.get_inputs()}
    )
    if output.ndim == 3:  # token vectors: optimum leaves pooling to the caller
        weights = mask[:, :, None].astype(np.float32)
        output = (output * weights).sum(1) / weights.sum(1)
    return output / np.linalg.norm(output, axis=1, keepdims=True)  # type: ignore[no-any-return]
