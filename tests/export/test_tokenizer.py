"""The tokenizer stage: exact tokens, and which limit holds."""

import json
import shutil

import pytest
from tokenizers import Tokenizer as FileTokenizer
from tokenizers import normalizers

from builder.core.execute import Executor
from builder.core.store import Store
from builder.errors import ModelError
from builder.export.tokenizer import Tokenizer
from builder.tools import tokenizer_file
from tests.export.builds import source_of
from tests.models import FAMILIES, MAX_LENGTH, add_sentence_transformers_files, make_model, write_json

HARD_TEXTS = (
    "",
    "   ",
    "👩‍👩‍👧‍👦 🏳️‍🌈 emoji",
    "中文和日本語のテキスト",
    "שלום עולם",
    "x" * 10_000,
    "many words " * 900,
    "\x00\x01\x7f\u200b\ufeff control",
    "[CLS] <s> </s> [MASK] <pad>",
    "Ünïcödé ﬁ Ⅷ İstanbul ΣΊΣΥΦΟΣ",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of tiny models, by family."""
    made = {}

    def make(family):
        if family not in made:
            made[family] = make_model(family, "text-classification", tmp_path_factory.mktemp(family) / "model")
        return made[family]

    return make


@pytest.fixture
def bert(models, tmp_path):
    return shutil.copytree(models("bert"), tmp_path / "model")


def run(folder, tmp_path, task="text-classification", max_length=None):
    return Executor(Store.at(tmp_path), "test").run(Tokenizer(task, max_length=max_length), source_of(folder))


def edit(path, **changes):
    write_json(path, {**json.loads(path.read_text()), **changes})


@pytest.mark.parametrize("family", FAMILIES)
def test_gives_exactly_the_tokens_of_auto_tokenizer(models, tmp_path, family):
    from transformers import AutoTokenizer

    files = run(models(family), tmp_path)
    ours = FileTokenizer.from_file(str(files.files["tokenizer.json"].path))
    assert ours.padding is None
    assert ours.truncation is None
    ours.enable_truncation(files.max_length, direction=files.truncation_side)
    theirs = AutoTokenizer.from_pretrained(models(family), local_files_only=True)

    for text in HARD_TEXTS:
        for pair in (None, "another text, to be cut " * 20):
            wanted = theirs(text, pair, truncation=True, max_length=files.max_length)
            got = ours.encode(text, pair)
            assert wanted["input_ids"] == got.ids
            assert wanted["attention_mask"] == got.attention_mask
            if "token_type_ids" in files.input_names:
                assert wanted["token_type_ids"] == got.type_ids
    assert (theirs.pad_token_id, theirs.padding_side) == (files.pad_token_id, files.padding_side)


def test_a_tokenizer_that_its_file_cannot_hold_is_refused(bert, tmp_path, monkeypatch):
    def wrong(tokenizer):
        copy = FileTokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        copy.normalizer = normalizers.Strip()
        return copy.to_str()

    monkeypatch.setattr(tokenizer_file, "serialise", wrong)

    with pytest.raises(ModelError, match=r"tokenizer\.json differ in input_ids for"):
        run(bert, tmp_path)


@pytest.mark.parametrize(
    ("recipe", "sentence_bert", "model_max_length", "expected", "place"),
    [
        (None, 32, 40, 32, "sentence_bert_config.json: max_seq_length"),
        (None, None, 40, 40, "tokenizer_config.json: model_max_length"),
        (None, None, 10**30, MAX_LENGTH, "positions"),
        (None, 512, 40, MAX_LENGTH, "positions"),
        (20, 32, 40, 20, "recipe: inputs.max_length"),
        (44, 32, 40, 44, "recipe: inputs.max_length"),
    ],
)
def test_the_limit_is_the_recipes_then_the_models_never_more_than_the_positions(
    bert, tmp_path, recipe, sentence_bert, model_max_length, expected, place
):
    add_sentence_transformers_files(bert, transformer={"max_seq_length": sentence_bert})
    edit(bert / "tokenizer_config.json", model_max_length=model_max_length)

    files = run(bert, tmp_path, "sentence-embedding", recipe)

    assert files.max_length == expected
    assert place in files.record["max_length"]["from"]


@pytest.mark.parametrize(("family", "positions"), [("bert", 48), ("roberta", 48), ("mpnet", 48), ("modernbert", 48)])
def test_a_recipe_above_the_positions_is_refused(models, tmp_path, family, positions):
    assert run(models(family), tmp_path / "control", max_length=positions).max_length == positions

    with pytest.raises(ModelError, match=rf"max_length is {positions + 1}; allowed: up to {positions}"):
        run(models(family), tmp_path / "above", max_length=positions + 1)


def test_no_tokenizer_is_refused(bert, tmp_path):
    (bert / "tokenizer.json").unlink()

    with pytest.raises(ModelError, match="the model has no tokenizer"):
        run(bert, tmp_path)


def test_a_damaged_tokenizer_is_refused(bert, tmp_path):
    (bert / "tokenizer.json").write_text('{"version": "1.0"')

    with pytest.raises(ModelError, match="the tokenizer cannot be loaded by transformers"):
        run(bert, tmp_path)


def test_a_tokenizer_without_padding_is_refused(bert, tmp_path):
    config = json.loads((bert / "tokenizer_config.json").read_text())
    write_json(
        bert / "tokenizer_config.json", {**config, "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": None}
    )

    with pytest.raises(ModelError, match="no padding token"):
        run(bert, tmp_path)


def test_special_tokens_that_are_split_are_refused(bert, tmp_path):
    edit(bert / "tokenizer_config.json", split_special_tokens=True)

    with pytest.raises(ModelError, match="split_special_tokens"):
        run(bert, tmp_path)


def test_a_tokenizer_without_attention_mask_is_refused(bert, tmp_path):
    edit(bert / "tokenizer_config.json", model_input_names=["input_ids"])

    with pytest.raises(ModelError, match="without input_ids and attention_mask"):
        run(bert, tmp_path)


def test_a_task_that_the_architecture_does_not_have_is_refused(bert, tmp_path):
    edit(bert / "config.json", model_type="bert-generation")

    with pytest.raises(ModelError, match="'bert-generation' has no text-classification model"):
        run(bert, tmp_path)


def test_an_unknown_architecture_is_refused(bert, tmp_path):
    edit(bert / "config.json", model_type="berd")

    with pytest.raises(ModelError, match=r"config\.json cannot be loaded by transformers"):
        run(bert, tmp_path)


def test_its_key_holds_what_decides_the_tokens_and_nothing_else(bert):
    stage = Tokenizer("text-classification")
    before = stage.fingerprint(source_of(bert))

    (bert / "README.md").write_text("changed")
    (bert / "model.safetensors").write_bytes(b"changed")
    assert stage.fingerprint(source_of(bert)) == before
    edit(bert / "tokenizer_config.json", padding_side="left")
    assert stage.fingerprint(source_of(bert)) != before
    assert Tokenizer("text-classification", max_length=9).fingerprint(source_of(bert)) != before
