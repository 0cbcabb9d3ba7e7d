"""The bind stage: weights stay in the model's own files; what cannot is embedded, and the record says why."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from builder.core.execute import Executor
from builder.core.store import Store
from builder.errors import InternalError, ModelError
from builder.export.bind import DATA_FILE, Bind
from builder.export.check import Check
from builder.tools import onnx_graph
from tests.export.builds import export, refer, source_of
from tests.models import add_sentence_transformers_files, make_model, write_json

TASK = "sentence-embedding"


@pytest.fixture(scope="module")
def bert(exported):
    return exported("bert", TASK)


@pytest.fixture
def folder(bert, tmp_path):
    return shutil.copytree(bert.folder, tmp_path / "model")


def bind(built, folder, tmp_path, **options):
    return Executor(Store.at(tmp_path), "test").run(Bind(TASK, **options), (built.graph, source_of(folder)))


def check(model, built, folder, tmp_path):
    """The check against a reference from this folder's own weights."""
    reference = refer(source_of(folder), built.tokenizer, TASK, tmp_path)
    return Executor(Store.at(tmp_path), "test").run(Check(), (model, reference))


def test_the_models_own_file_is_referred_to_and_not_copied(bert):
    assert bert.model.files["model.safetensors"].sha256 == bert.source.files["model.safetensors"].sha256
    assert bert.model.files["model.onnx"].size < 60_000
    assert bert.model.record["bound"] == len(bert.graph.parameters)
    assert bert.model.record["bound_bytes"] > bert.model.files["model.safetensors"].size * 0.9


def test_a_sharded_checkpoint_binds_to_the_same_graph(bert, folder, tmp_path):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, shards = sorted(weights), {}
    for index, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{index:05}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / file, metadata={"format": "pt"})
        shards |= dict.fromkeys(part, file)
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": shards})

    model = bind(bert, folder, tmp_path)

    assert sorted(model.files) == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.onnx"]
    assert model.record["bound"] == len(bert.graph.parameters)
    check(model, bert, folder, tmp_path)


def test_another_checkpoint_is_bound_to_the_graph_with_its_own_values(bert, tmp_path):
    other = add_sentence_transformers_files(make_model("bert", TASK, tmp_path / "other", seed=1))

    model = bind(bert, other, tmp_path)

    check(model, bert, other, tmp_path)
    with pytest.raises(ModelError, match="differs from transformers"):  # control: it is another model
        check(bert.model, bert, other, tmp_path)


def test_a_checkpoint_with_the_names_of_another_task_binds(exported, tmp_path):
    """roberta.embeddings…, in a checkpoint that was saved with a classifier's head."""
    folder = shutil.copytree(exported("roberta", "text-classification").folder, tmp_path / "model")

    built = export(add_sentence_transformers_files(folder), TASK, tmp_path)

    assert built.model.record["bound"] == len(built.graph.parameters)
    assert all(key.startswith("roberta.") for key in built.graph.parameters.values())


@pytest.mark.parametrize(("dtype", "name"), [(np.float16, "F16"), (np.float64, "F64"), ("bfloat16", "BF16")])
def test_another_dtype_is_embedded_and_the_record_says_why(bert, folder, tmp_path, dtype, name):
    import torch
    from safetensors.torch import save_file as save_torch

    kind = torch.bfloat16 if dtype == "bfloat16" else getattr(torch, np.dtype(dtype).name)
    weights = {key: torch.from_numpy(value).to(kind) for key, value in load_file(folder / "model.safetensors").items()}
    save_torch(weights, folder / "model.safetensors", metadata={"format": "pt"})

    model = bind(bert, folder, tmp_path)

    reason = f"stored as {name}, served as FP32"
    assert model.record["bound"] == 0
    assert model.record["embedded"][reason]["count"] == len(bert.graph.parameters)
    assert model.record["embedded"][reason]["first"][0] in bert.graph.parameters
    assert list(model.files) == ["model.onnx"]
    check(model, bert, folder, tmp_path)


def test_what_is_too_large_to_embed_goes_into_a_data_file(bert, folder, tmp_path):
    weights = {key: value.astype(np.float16) for key, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    model = bind(bert, folder, tmp_path, embed_limit=1000)

    assert sorted(model.files) == ["model.onnx", DATA_FILE]
    assert model.files["model.onnx"].size < 60_000
    check(model, bert, folder, tmp_path)


def test_a_tensor_that_loading_changes_is_taken_from_the_loaded_model(bert, folder, tmp_path):
    first, *rest = bert.graph.parameters
    graph = dataclasses.replace(
        bert.graph, parameters={first: "", **{name: bert.graph.parameters[name] for name in rest}}
    )

    model = bind(dataclasses.replace(bert, graph=graph), folder, tmp_path)

    assert model.record["embedded"] == {"transformers changes it when it loads": {"count": 1, "first": [first]}}
    assert model.record["bound"] == len(rest)
    check(model, bert, folder, tmp_path)


def test_tensors_that_are_stored_as_one_are_embedded(exported):
    """nomic_bert stores query, key and value as one tensor, which transformers takes apart."""
    built = exported("nomic_bert", TASK)

    assert built.model.record["embedded"]["transformers changes it when it loads"]["count"] == 6
    assert built.model.record["bound"] == len(built.graph.parameters) - 6


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_weights_in_subfolders_get_a_name_of_their_own(tmp_path):
    from sentence_transformers import SentenceTransformer

    folder = tmp_path / "model"
    make_model("bert", TASK, folder / "0_Transformer")
    add_sentence_transformers_files(folder, modules=("Dense", "LayerNorm", "Dense", "Normalize"))
    modules = json.loads((folder / "modules.json").read_text())
    write_json(folder / "modules.json", [{**modules[0], "path": "0_Transformer"}, *modules[1:]])
    (folder / "sentence_bert_config.json").rename(folder / "0_Transformer/sentence_bert_config.json")
    random = np.random.default_rng(0)

    def weights(**shapes):
        return {name.replace("_", "."): random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}

    gelu = {"activation_function": "torch.nn.modules.activation.GELU", "use_residual": True}
    write_json(folder / "2_Dense/config.json", {"in_features": 32, "out_features": 24, **gelu})
    save_file(
        weights(linear_weight=(24, 32), linear_bias=24, residual_weight=(24, 32)), folder / "2_Dense/model.safetensors"
    )
    write_json(folder / "3_LayerNorm/config.json", {"dimension": 24})
    save_file(weights(norm_weight=24, norm_bias=24), folder / "3_LayerNorm/model.safetensors")
    write_json(folder / "4_Dense/config.json", {"in_features": 24, "out_features": 8, "bias": False})
    save_file(weights(linear_weight=(8, 24)), folder / "4_Dense/model.safetensors")

    built = export(folder, TASK, tmp_path)

    assert sorted(built.model.files) == [
        "0_Transformer.model.safetensors",
        "2_Dense.model.safetensors",
        "3_LayerNorm.model.safetensors",
        "4_Dense.model.safetensors",
        "model.onnx",
    ]
    assert built.tokenizer.max_length == 32
    assert built.model.outputs[0].shape == (-1, 8)
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    answered = model.encode(["one text", "and another"], show_progress_bar=False)
    from builder.artifacts import Sample

    asked = refer(built.source, built.tokenizer, TASK, tmp_path / "two", [Sample("one text"), Sample("and another")])
    expected = load_file(asked.files["expected.safetensors"].path)["EMBEDDING"]
    assert np.abs(answered - expected).max() < 1e-5


def test_a_step_whose_weights_do_not_fit_its_config_is_refused(tmp_path):
    folder = add_sentence_transformers_files(make_model("bert", TASK, tmp_path / "model"), modules=("Dense",))
    write_json(folder / "2_Dense/config.json", {"in_features": 32, "out_features": 24})
    save_file({"linear.weight": np.zeros((24, 31), np.float32)}, folder / "2_Dense/model.safetensors")

    with pytest.raises(ModelError, match=r"config\.json asks for"):
        export(folder, TASK, tmp_path)


def test_a_checkpoint_that_was_not_traced_is_an_error_of_ours(bert, folder, tmp_path):
    weights = load_file(folder / "model.safetensors")
    weights.pop("embeddings.word_embeddings.weight")
    save_file(weights, folder / "model.safetensors")

    with pytest.raises(InternalError, match="does not"):
        bind(bert, folder, tmp_path)


def test_a_model_without_data_is_not_published(bert):
    graph = bert.graph.files["graph.onnx"]
    unbound = dataclasses.replace(bert.model, files={"model.onnx": graph})

    with pytest.raises(InternalError, match="have no data"):
        Bind(TASK).ensures((bert.graph, bert.source), unbound)
    assert onnx_graph.unbound(onnx_graph.load(bert.model.files["model.onnx"].path)) == ()


def test_its_key_holds_the_weights_content(bert, folder):
    before = Bind(TASK).fingerprint((bert.graph, source_of(folder)))
    (folder / "README.md").write_text("words")
    assert Bind(TASK).fingerprint((bert.graph, source_of(folder))) == before
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.LayerNorm.bias"] = weights["embeddings.LayerNorm.bias"] + 1
    save_file(weights, folder / "model.safetensors")
    assert Bind(TASK).fingerprint((bert.graph, source_of(folder))) != before


def test_its_key_holds_what_loading_depends_on_where_values_are_loaded(bert, folder):
    loaded = dataclasses.replace(
        bert.graph, parameters={**bert.graph.parameters, next(iter(bert.graph.parameters)): ""}
    )
    graphs = (bert.graph, loaded)
    before = [Bind(TASK).fingerprint((graph, source_of(folder))) for graph in graphs]
    assert set(before[1]["loaded"]["versions"]) == {"torch", "transformers", "safetensors"}

    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, "rope_theta": 1})

    after = [Bind(TASK).fingerprint((graph, source_of(folder))) for graph in graphs]
    assert after[0] == before[0], "control: where every parameter is a stored tensor nothing is loaded"
    assert after[1] != before[1]
