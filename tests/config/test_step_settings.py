"""What steps are told of tokenizers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from builder.config.ports import ModelPorts, ports
from builder.config.stage_inputs import ConfigureInputs
from builder.config.step_settings import StepFacts, settings, unknown_begins
from builder.recipe.steps import EntitiesStep
from tests.config.test_ports import MODELS
from tests.parts import make_parts

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("wordpiece", {}),
        ("byte-level", {"words": "spaces", "unk_token_id": None}),  # it knows all bytes
        ("unigram", {"words": "spaces", "unk_token_id": "transformers'"}),
    ],
)
def test_words_are_told_by_what_the_tokenizer_has(kind: str, told: dict[str, Any], tmp_path: Path) -> None:
    parts = make_parts(tmp_path, kind=kind)
    made, part = ConfigureInputs(parts.model, parts.tokenizer, None, ("O", "B-A")), None
    if told.get("unk_token_id"):
        told = {**told, "unk_token_id": parts.hf.unk_token_id}
    for strategy in ("first", "simple"):
        section = EntitiesStep.model_validate({"entities": "ner", "aggregation_strategy": strategy})
        known = ModelPorts(MODELS["ner"].takes, MODELS["ner"].gives, labels=2, unknown_begins=unknown_begins(made))
        (step,) = ports({"x": section}, {"ner": known}, {"x": 8})
        found = settings(section, step, StepFacts(made, part or object(), {}))  # type: ignore[arg-type]
        wanted = told if strategy == "first" else {}
        assert {name: found[name] for name in found if name in {"words", "unk_token_id"}} == wanted
        looks = wanted.get("unk_token_id") is not None
        assert ("input_ids" in [port.name for port in step.takes]) == looks
        (declared,) = ports({"x": section}, MODELS, {"x": 8})
        optional = [port.optional for port in declared.takes if port.name == "input_ids"]
        assert optional == ([True] if strategy == "first" else [])
