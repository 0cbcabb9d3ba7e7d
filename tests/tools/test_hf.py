"""Loading from a local folder: safetensors only, no remote code, and errors that name the reason."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from builder.errors import ModelError
from builder.tools import hf, tokenizer_file
from tests.models import MAX_LENGTH, make_model, make_tokenizer, write_json

TASK = "text-classification"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_model("bert", TASK, tmp_path_factory.mktemp("hf") / "model")


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "model")


def edit(folder, **changes):
    config = {**json.loads((folder / "config.json").read_text()), **changes}
    write_json(folder / "config.json", config)


def test_loads_fp32_whatever_is_stored(folder):
    import torch
    from safetensors.torch import load_file, save_file

    weights = {name: value.half() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    edit(folder, dtype="float16")

    model = hf.load_model(folder, TASK)

    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert not model.training
    assert model.config._attn_implementation == "eager"
    assert hf.load_model(folder, TASK, attention=None).config._attn_implementation == "sdpa"


def test_weights_are_mapped_and_not_read(folder):
    model = hf.load_model(folder, TASK)
    address = model.bert.embeddings.word_embeddings.weight.data_ptr()

    maps = Path("/proc/self/maps").read_text().splitlines()
    spans = [line.split() for line in maps if line.endswith(str(folder / "model.safetensors"))]
    assert any(int(span[0].split("-")[0], 16) <= address < int(span[0].split("-")[1], 16) for span in spans)


def test_pickled_weights_are_never_loaded(folder):
    import torch

    weights = hf.load_model(folder, TASK).state_dict()
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()

    with pytest.raises(ModelError, match="the model cannot be loaded by transformers"):
        hf.load_model(folder, TASK)


def test_code_of_the_model_is_never_executed(folder):
    (folder / "modeling_evil.py").write_text("raise SystemExit('executed')")
    edit(folder, model_type="evil", auto_map={"AutoConfig": "modeling_evil.EvilConfig"})

    with pytest.raises(ModelError, match=r"config\.json cannot be loaded by transformers"):
        hf.load_model(folder, TASK)


def test_missing_weights_are_known(made):
    assert hf.load_model(made, TASK).tritonsmith_missing_keys == frozenset()


@pytest.mark.parametrize(
    ("family", "config", "positions"),
    [("bert", {}, MAX_LENGTH), ("roberta", {}, MAX_LENGTH), ("deberta-v2", {"max_position_embeddings": 512}, 512)],
)
def test_positions_are_counted_in_tokens(tmp_path, family, config, positions):
    folder = make_model(family, TASK, tmp_path / "model", **config)

    architecture = hf.architecture(folder, TASK)

    assert architecture.positions == positions
    assert architecture.token_types == (family != "deberta-v2")


def test_a_slow_tokenizer_is_refused(tmp_path):
    write_json(tmp_path / "config.json", {"model_type": "canine"})
    write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "CanineTokenizer"})

    with pytest.raises(ModelError, match="CanineTokenizer, written in Python"):
        hf.load_tokenizer(tmp_path)


def test_lower_casing_comes_before_the_normalizer(tmp_path):
    folder = make_tokenizer("unigram", tmp_path)

    plain, lower = hf.load_tokenizer(folder), hf.load_tokenizer(folder, lower_case=True)

    assert plain("UPPER")["input_ids"] != plain("upper")["input_ids"]
    assert lower("UPPER")["input_ids"] == plain("upper")["input_ids"]
    assert '"Lowercase"' in tokenizer_file.serialise(lower)
    assert '"Lowercase"' not in tokenizer_file.serialise(plain)


def test_transformers_keeps_its_voice(made, capfd):
    """Loading is silent, and what transformers would say otherwise is as it was before."""
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hf.load_model(made, TASK)
    hf.load_model(made, "sentence-embedding")

    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_runs_a_model(made):
    ids = np.full((2, 5), 7, np.int64)

    logits = hf.run_model(hf.load_model(made, TASK), {"input_ids": ids, "attention_mask": np.ones_like(ids)}, "logits")

    assert logits.shape == (2, 2)
    assert logits.dtype == np.float32
