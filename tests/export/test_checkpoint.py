"""Which stored tensor is which parameter."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from builder.core.digest import describe_folder
from builder.export import checkpoint
from builder.export.tasks import read_head
from builder.tools import hf, torch_heads
from tests.models import add_sentence_transformers_files, make_model, write_json

TASK = "sentence-embedding"


@pytest.fixture
def folder(tmp_path):
    folder = add_sentence_transformers_files(make_model("bert", TASK, tmp_path / "model"), modules=("Dense",))
    write_json(folder / "2_Dense/config.json", {"in_features": 32, "out_features": 8})
    weights = {"linear.weight": np.full((8, 32), 0.5, np.float32), "linear.bias": np.arange(8, dtype=np.float32)}
    save_file(weights, folder / "2_Dense/model.safetensors")
    return folder


def match(folder):
    tree = describe_folder(folder)
    head = read_head(tree, TASK)
    module = torch_heads.with_head(
        hf.load_model(folder, TASK), head.takes, head.steps, ("input_ids", "attention_mask"), "right"
    )
    torch_heads.load_step(module, 1, folder / "2_Dense/model.safetensors")
    return checkpoint.match(module, [*module.state_dict(), "val_7"], head, tree)


def resave(folder, change):
    weights = load_file(folder / "model.safetensors")
    save_file(dict(change(*item) for item in weights.items()), folder / "model.safetensors", metadata={"format": "pt"})


def test_every_parameter_is_found_and_constants_are_left_out(folder):
    found = match(folder)

    assert found["model.encoder.layer.1.output.dense.weight"] == "encoder.layer.1.output.dense.weight"
    assert found["steps.1.linear.weight"] == "2_Dense/linear.weight"
    assert "val_7" not in found
    assert all(found.values())


def test_another_dtype_changes_nothing(folder):
    before = match(folder)

    resave(folder, lambda name, value: (name, value.astype(np.float16)))

    assert match(folder) == before


def test_other_names_are_found_as_well(folder):
    def old(name, value):
        return f"bert.{name}".replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"), value

    resave(folder, old)
    assert match(folder)["model.embeddings.LayerNorm.weight"] == "bert.embeddings.LayerNorm.gamma"

    resave(folder, lambda name, value: (name, value.astype(np.float16)))  # found by name now, not by place
    assert match(folder)["model.embeddings.LayerNorm.weight"] == "bert.embeddings.LayerNorm.gamma"


def test_a_parameter_that_has_other_values_than_its_name_says_is_not_matched(folder):
    tree = describe_folder(folder)
    head = read_head(tree, TASK)
    module = torch_heads.with_head(
        hf.load_model(folder, TASK), head.takes, head.steps[:1], ("input_ids", "attention_mask"), "right"
    )
    weight = module.model.embeddings.LayerNorm.weight
    weight.data = weight.data + 1

    found = checkpoint.match(module, module.state_dict(), head, tree)

    assert found["model.embeddings.LayerNorm.weight"] == ""
    assert found["model.embeddings.LayerNorm.bias"] == "embeddings.LayerNorm.bias"


def test_facts_of_the_header_hold_no_values(folder):
    def facts():
        tree = describe_folder(folder)
        return checkpoint.header_facts(tree, read_head(tree, TASK))

    before = facts()
    assert ["2_Dense/linear.bias", "F32", [8]] in before

    resave(folder, lambda name, value: (name, value * 2))
    assert facts() == before
    resave(folder, lambda name, value: (name, value.astype(np.float16)))
    assert facts() != before


class _WithBuffers(torch.nn.Module):
    """A model with a buffer that was loaded, but is stored under no name that anybody would guess; and one that is not
    stored at all."""

    base_model_prefix = "bert"
    tritonsmith_missing_keys = frozenset({"computed"})

    def __init__(self):
        super().__init__()
        self.register_buffer("loaded", torch.arange(4.0))
        self.register_buffer("computed", torch.arange(4.0))


def test_values_of_a_checkpoint_are_never_taken_for_the_graphs_own(folder):
    tree = describe_folder(folder)
    head = read_head(tree, TASK)
    module = torch_heads.with_head(_WithBuffers(), head.takes, head.steps[:1], ("input_ids", "attention_mask"), "right")

    found = checkpoint.match(module, module.state_dict(), head, tree)

    assert found == {"model.loaded": ""}, "it has to be loaded again for each checkpoint; what is computed has not"
