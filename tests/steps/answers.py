"""Answers of transformers 4, whose question-answering pipeline is no longer in transformers 5.

``data/answers.json`` was made by this file, with ``transformers==4.57.1 huggingface_hub==0.36.0 tokenizers==0.22.1``
first on the path: ``python -m tests.steps.answers``. The model behind the pipeline gives :func:`logits`, which need no
weights, so that the suite can give the same to the step.
"""

from __future__ import annotations

import json
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from tests.models import TOKENIZERS, make_tokenizer

FILE = Path(__file__).parent / "data/answers.json"
LENGTH = 256

PAIRS = (
    ("Who sleeps under the table?", "Der Hund schläft unter dem Tisch, und die Katze schaut ihm zu."),
    ("When does the train leave?", "The train to the coast leaves at seven in the morning."),
    ("Which word?", "the The THE the tHe the"),
    ("Wo?", "Ünïcödé ÀÉÎ ﬁ Ⅷ İstanbul"),
    ("天気?", "今日は天気がいいですね。"),
    ("A flower 🌷?", "for the flowers,  they\tare lovely 🌷🌷 (U.S.A.)"),
    ("?", "a"),
)
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"align_to_words": False},
    {"max_answer_len": 1},
    {"max_answer_len": 3, "handle_impossible_answer": True},
)


def logits(seed: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Start and end logits FP32 [length], from -4 to 4 (8 for the first), by arithmetic that is the same everywhere."""
    steps = np.arange(length, dtype=np.int64)
    start, end = ((steps * 7919 + steps**2 * factor + seed * 104729) % 801 for factor in (31, 57))
    if seed % len(OPTIONS) == len(OPTIONS) - 1:
        start[:1], end[:1] = 1200, 1200  # the last options look for "no answer", which the first token stands for
    return (start / 100 - 4).astype(np.float32), (end / 100 - 4).astype(np.float32)


def main() -> None:
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForQuestionAnswering, QuestionAnsweringPipeline

    class Answers(QuestionAnsweringPipeline):  # type: ignore[misc]
        def _forward(self, inputs: dict[str, Any]) -> dict[str, Any]:
            output = super()._forward(inputs)
            start, end = logits(self.seed, output["start"].shape[1])
            return {**output, "start": torch.tensor(start)[None], "end": torch.tensor(end)[None]}

    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    model = BertForQuestionAnswering(BertConfig(vocab_size=400, **small))
    model.eval()
    found = []
    for kind in sorted(TOKENIZERS):
        with tempfile.TemporaryDirectory() as folder:
            tokenizer = AutoTokenizer.from_pretrained(make_tokenizer(kind, Path(folder)))
        answers = Answers(model=model, tokenizer=tokenizer, device="cpu")
        for seed, ((question, context), options) in enumerate(product(PAIRS, OPTIONS)):
            answers.seed = seed
            got = answers(question=question, context=context, max_seq_len=LENGTH, **options)
            case = {"kind": kind, "question": question, "context": context, "seed": seed, "options": options}
            found.append({**case, "answer": got})
    lines = ",\n".join(json.dumps(item, ensure_ascii=False) for item in found)
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
