"""Pipelines that cannot work, as far as their recipes tell: each with the place, and what to write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from builder.config.declared import declared_dag
from builder.errors import RecipeError
from builder.recipe import load

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """schema_version: 1
name: p
models:
  a: {{source: {{path: a}}, task: text-classification}}
  ner: {{source: {{path: a}}, task: token-classification}}
  qa: {{source: {{path: a}}, task: question-answering}}
pipeline:
  steps: {{{steps}}}
  outputs: [{outputs}]
"""
TAGGER = "tokenize: {tokenizer: ner}, ner: {model: ner}"
TOKENS = "has an axis of tokens, whose length depends on what else is in the batch; "


def check(folder: Path, steps: str, outputs: str) -> Any:
    (folder / "recipe.yaml").write_text(RECIPE.format(steps=steps, outputs=outputs))
    recipe: Any = load(folder / "recipe.yaml")
    return declared_dag(recipe)


@pytest.mark.parametrize(
    ("steps", "outputs", "expected"),
    [
        (TAGGER, "LOGITS", f"output 'LOGITS': ner.LOGITS {TOKENS}put a step {{entities: …}} after it"),
        ("qa: {ensemble: qa}", "END_LOGITS", f"'END_LOGITS': qa.END_LOGITS {TOKENS}put a step {{spans: …}} after it"),
        ("tokenize: {tokenizer: a}", "input_ids", f"output 'input_ids': tokenize.input_ids {TOKENS}leave it out"),
        (
            f"{TAGGER}, labels: {{labels: ner}}",
            "LABEL",
            "{PROBABILITIES: request.PROBABILITIES} if clients send it, or put a step before it that gives it",
        ),
        (
            "a: {model: a}, tokenize: {tokenizer: a}",
            "LOGITS",
            "but tokenize.input_ids is there: move that step before it, or write inputs: {input_ids: tokenize",
        ),
        ("whole: {ensemble: a}", "LOGIT", "there are LOGITS, PROBABILITIES; did you mean 'LOGITS'?"),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_write(
    tmp_path: Path, steps: str, outputs: str, expected: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        check(tmp_path, steps, outputs)
    assert expected in caught.value.message
    assert caught.value.message.startswith(f"{tmp_path}/recipe.yaml:")
    assert "is of no use" not in caught.value.message  # only seems so


def test_what_can_work(tmp_path: Path) -> None:
    assert check(tmp_path, f"{TAGGER}, entities: {{entities: ner}}", "ENTITIES").outputs
    ids = "input_ids: request.input_ids, attention_mask: request.attention_mask"
    assert {port.name for port in check(tmp_path, f"a: {{model: a, inputs: {{{ids}}}}}", "LOGITS").inputs} == {
        "input_ids",
        "attention_mask",
    }
