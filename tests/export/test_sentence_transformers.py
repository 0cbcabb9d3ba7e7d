"""What a sentence-transformers model's files say, and the refusal of what is not understood."""

import json
import shutil

import numpy as np
import pytest

from builder.artifacts import Sample
from builder.core.digest import describe_folder
from builder.errors import ModelError
from builder.export import sentence_transformers
from builder.export.tokenizer import Tokenizer
from builder.tools.heads import Dense, LayerNorm, Normalize, Pooling, Truncate
from builder.tools.safetensors_values import load_arrays
from tests.export.builds import refer, source_of
from tests.models import TEXTS, add_sentence_transformers_files, make_model, write_json


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A bert without sentence-transformers files."""
    return make_model("bert", "sentence-embedding", tmp_path_factory.mktemp("plain") / "model")


@pytest.fixture
def folder(plain, tmp_path):
    return shutil.copytree(plain, tmp_path / "model")


def read(folder):
    return sentence_transformers.read(describe_folder(folder))


def test_reads_the_modules_in_order(folder):
    add_sentence_transformers_files(folder, modules=("Dense", "LayerNorm", "Dropout", "Normalize"))
    write_json(folder / "2_Dense/config.json", {"in_features": 32, "out_features": 16, "bias": True})
    write_json(folder / "3_LayerNorm/config.json", {"dimension": 16})

    model = read(folder)

    assert model.steps == (Pooling(("mean",)), Dense("2_Dense", 32, 16), LayerNorm("3_LayerNorm", 16), Normalize())
    assert (model.folder, model.max_length, model.lower_case, model.prompt) == ("", 32, False, "")


def test_reads_names_and_keys_of_today(folder):
    add_sentence_transformers_files(
        folder,
        pooling={"embedding_dimension": 32, "pooling_mode": ["cls", "max"]},
        transformer={
            "transformer_task": "feature-extraction",
            "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            "module_output_name": "token_embeddings",
        },
        settings={"model_type": "SentenceTransformer", "prompts": {"query": "", "document": ""}, "truncate_dim": 40},
    )
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"
    write_json(folder / "modules.json", modules)

    assert read(folder).steps == (Pooling(("cls", "max")), Normalize(), Truncate(40))


def test_reads_a_transformer_in_a_subfolder(folder):
    add_sentence_transformers_files(folder)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    write_json(folder / "modules.json", modules)
    write_json(folder / "0_Transformer/sentence_bert_config.json", {"max_seq_length": 17, "do_lower_case": True})

    model = read(folder)

    assert (model.folder, model.max_length, model.lower_case) == ("0_Transformer", 17, True)


def test_without_modules_it_is_mean_pooling_and_the_record_says_so(folder):
    model = read(folder)

    assert model.steps == (Pooling(("mean",)),)
    assert "mean pooling" in model.record["modules"]


def test_without_modules_a_causal_model_takes_its_last_token(folder):
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, "architectures": ["QwenForCausalLM"]})

    assert read(folder).steps == (Pooling(("lasttoken",)),)


def test_a_default_prompt_is_put_before_every_text(folder):
    add_sentence_transformers_files(folder, settings={"prompts": {"q": "query: "}, "default_prompt_name": "q"})

    assert read(folder).prompt == "query: "


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("modules.json", lambda x: [*x, {**x[1], "type": "sentence_transformers.models.LSTM"}], "LSTM"),
        ("modules.json", lambda x: [*x, {**x[1], "type": "custom_st.Normalize"}], r"custom_st\.Normalize"),
        ("modules.json", lambda x: [x[1], x[0]], "Pooling, Transformer"),
        ("modules.json", lambda x: [*x[:1], x[2]], "Transformer, Dense"),
        ("modules.json", lambda x: [{**x[0], "kwargs": ["task"]}, *x[1:]], r"kwargs \['task'\]"),
        ("modules.json", lambda x: [x[0], {**x[1], "path": "../1_Pooling"}], r"\.\./1_Pooling"),
        ("modules.json", lambda x: [x[0], {**x[1], "path": "9_Pooling"}], "9_Pooling/config.json"),
        ("modules.json", lambda _: {}, "list of modules"),
        ("1_Pooling/config.json", lambda x: {**x, "pooling_mode": "median"}, "median"),
        ("1_Pooling/config.json", lambda x: {**x, "attention_heads": 4}, "attention_heads: 4 is not understood"),
        ("2_Dense/config.json", lambda x: {**x, "activation_function": "torch.nn.modules.activation.Mish"}, "Mish"),
        ("2_Dense/config.json", lambda x: {**x, "activation_function": "evil.Tanh"}, r"evil\.Tanh"),
        ("2_Dense/config.json", lambda x: {**x, "module_input_name": "token_embeddings"}, "module_input_name"),
        ("2_Dense/config.json", lambda x: {**x, "out_features": "16"}, "out_features is '16'"),
        ("sentence_bert_config.json", lambda x: {**x, "max_seq_length": -1}, "max_seq_length is -1"),
        ("sentence_bert_config.json", lambda x: {**x, "query_length": 4}, "query_length: 4"),
        ("sentence_bert_config.json", lambda x: {**x, "transformer_task": "fill-mask"}, "fill-mask"),
        ("sentence_bert_config.json", lambda x: {**x, "processor_kwargs": {"use_fast": False}}, "processor_kwargs"),
        ("config_sentence_transformers.json", lambda x: {**x, "model_type": "SparseEncoder"}, "SparseEncoder"),
        ("config_sentence_transformers.json", lambda x: {**x, "quantize": True}, "quantize: True"),
        (
            "config_sentence_transformers.json",
            lambda x: {**x, "default_prompt_name": "q"},
            "default_prompt_name is 'q'",
        ),
    ],
)
def test_what_is_not_understood_is_refused_by_name(folder, file, change, message):
    add_sentence_transformers_files(folder, modules=("Dense",))
    write_json(folder / "2_Dense/config.json", {"in_features": 32, "out_features": 16})
    read(folder)  # control: it is understood before the change
    write_json(folder / file, change(json.loads((folder / file).read_text())))

    with pytest.raises(ModelError, match=message):
        read(folder)


def test_a_prompt_that_is_left_out_of_the_pooling_is_refused(folder):
    settings = {"prompts": {"q": "query: "}, "default_prompt_name": "q"}
    add_sentence_transformers_files(folder, pooling={"include_prompt": False}, settings=settings)

    with pytest.raises(ModelError, match="include_prompt is false"):
        read(folder)


def test_a_chat_template_without_modules_is_refused(folder):
    (folder / "chat_template.jinja").write_text("{{ messages }}")

    with pytest.raises(ModelError, match="chat template"):
        read(folder)


def test_a_file_that_is_no_json_is_refused(folder):
    add_sentence_transformers_files(folder)
    (folder / "modules.json").write_text("[{")

    with pytest.raises(ModelError, match=r"modules\.json: not JSON"):
        read(folder)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "case",
    [
        {"pooling": {"pooling_mode": ["cls", "lasttoken", "max"]}, "modules": ()},
        {"pooling": {"pooling_mode": ["weightedmean", "mean_sqrt_len_tokens", "mean"]}, "modules": ("Normalize",)},
        {"transformer": {"do_lower_case": True, "max_seq_length": 9}},
        {"settings": {"prompts": {"q": "Query: "}, "default_prompt_name": "q", "truncate_dim": 20}},
        {"pooling": {"include_prompt": False}},
        None,
    ],
    ids=["modes", "means", "lower-case", "prompt-and-truncation", "include-prompt", "plain"],
)
def test_the_reference_equals_sentence_transformers(folder, tmp_path, case):
    from sentence_transformers import SentenceTransformer

    if case is not None:
        add_sentence_transformers_files(folder, **case)
    texts = [*TEXTS, "SHOUTING İSTANBUL ΣΊΣΥΦΟΣ"]
    source = source_of(folder)
    tokenizer = Tokenizer("sentence-embedding").run(source, _made(tmp_path / "tokenizer"))

    reference = refer(source, tokenizer, "sentence-embedding", tmp_path, [Sample(text) for text in texts])

    expected = load_arrays(reference.files["expected.safetensors"].path)["EMBEDDING"]
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    answered = model.encode(texts, batch_size=5, show_progress_bar=False)
    assert answered.shape == expected.shape
    assert np.abs(answered - expected).max() < 2e-5


def _made(folder):
    folder.mkdir()
    return folder
