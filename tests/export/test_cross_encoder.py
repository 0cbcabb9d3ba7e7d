"""What the files of a cross-encoder say of its scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from builder.core.digest import describe_folder
from builder.errors import ModelError
from builder.export.tasks import Head, read_head
from builder.tools.heads import Score
from tests.models import write_json

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS, TRANSFORMER = "config_sentence_transformers.json", "sentence_bert_config.json"
MODULE = {"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
LEGACY = "sbert_ce_default_activation_function"
IDENTITY = "torch.nn.modules.linear.Identity"


def read(folder: Path, config: dict[str, Any] | None = None, **files: Any) -> Head:
    write_json(folder / "config.json", {"model_type": "bert", "num_labels": 1, **(config or {})})
    for name, content in files.items():
        write_json(folder / f"{name}.json", content)
    return read_head(describe_folder(folder), "text-ranking")


@pytest.mark.parametrize(
    ("config", "files", "activation"),
    [
        ({}, {}, "Sigmoid"),
        ({"sentence_transformers": {"activation_fn": IDENTITY}}, {}, "Identity"),
        ({LEGACY: IDENTITY}, {}, "Identity"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.Tanh"}, LEGACY: IDENTITY}, {}, "Tanh"),
        ({"sentence_transformers": {"activation_fn": IDENTITY}},
         {"config_sentence_transformers": {"model_type": "CrossEncoder", "activation_fn": "torch.nn.Sigmoid"}},
         "Sigmoid"),
        ({"sentence_transformers": {"version": "5.0"}}, {"modules": [MODULE]}, "Sigmoid"),
    ],
)  # fmt: skip
def test_the_activation_is_that_of_the_newest_file(
    tmp_path: Path, config: dict[str, Any], files: dict[str, Any], activation: str
) -> None:
    head = read(tmp_path, config, **files)
    assert (head.steps, head.outputs, head.metric) == ((Score(activation),), ("LOGITS", "SCORE"), "logits")


def test_limits_of_the_files_are_kept(tmp_path: Path) -> None:
    head = read(tmp_path, sentence_bert_config={"max_seq_length": 77, "do_lower_case": True})
    assert (head.max_length, head.lower_case) == (77, True)
    assert head.max_length_from == "sentence_bert_config.json: max_seq_length"
    assert head.files == (TRANSFORMER,)


@pytest.mark.parametrize(
    ("config", "files", "message"),
    [
        ({"num_labels": 3}, {}, "the model has 3 labels; text-ranking takes one"),
        ({"sentence_transformers": {"activation_fn": "my.Scale"}}, {}, "activation_fn is 'my.Scale'; understood are"),
        ({}, {"modules": [MODULE, {**MODULE, "type": "sentence_transformers.base.modules.dense.Dense"}]},
         "modules.json: Transformer, Dense; text-ranking takes a Transformer alone"),
        ({}, {"modules": [{**MODULE, "path": "0_Transformer"}]}, "in the model's own folder"),
        ({}, {"modules": {}}, "modules.json: no modules"),
        ({}, {"config_sentence_transformers": {"model_type": "SentenceTransformer"}}, "takes a 'CrossEncoder'"),
        ({}, {"config_sentence_transformers": {"default_prompt_name": "q"}}, "default_prompt_name: 'q' is not"),
        ({}, {"sentence_bert_config": {"transformer_task": "text-generation"}}, "transformer_task: 'text-generation'"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(
    tmp_path: Path, config: dict[str, Any], files: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError) as error:
        read(tmp_path, config, **files)
    assert message in str(error.value)
