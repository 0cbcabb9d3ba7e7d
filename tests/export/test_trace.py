"""The trace stage: a graph of the architecture alone, the same bytes everywhere."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from builder.errors import ModelError
from builder.export.trace import Trace
from builder.tools import onnx_graph
from tests.export.builds import source_of, trace
from tests.models import make_model, write_json

_SCRIPT = """
import sys
from pathlib import Path
from tests.export.builds import trace
print(trace(Path(sys.argv[1]), "sentence-embedding", Path(sys.argv[2]))[2].files["graph.onnx"].sha256)
"""


def test_bytes_are_the_same_in_another_process_and_folder(exported, tmp_path):
    built = exported("bert", "sentence-embedding")
    copy = shutil.copytree(built.folder, tmp_path / "elsewhere")
    root = Path(__file__).parents[2]

    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(copy), str(tmp_path / "work")],
        env={**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(root)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == built.graph.files["graph.onnx"].sha256


def test_no_path_of_the_build_machine_is_left(exported):
    for family in ("bert", "deberta-v2"):
        content = exported(family, "text-classification").graph.files["graph.onnx"].path.read_bytes()
        for leak in (str(Path.home()), sys.prefix, "site-packages", ".py", "tests", str(Path.cwd()), "stack_trace"):
            assert leak.encode() not in content


def test_the_graph_holds_no_weights(exported):
    built = exported("bert", "sentence-embedding")
    model = onnx_graph.load(built.graph.files["graph.onnx"].path)

    assert set(onnx_graph.unbound(model)) == set(built.graph.parameters)
    rest = set(onnx_graph.initializer_names(model)) - set(built.graph.parameters)
    assert all(model.graph.initializers[name].const_value.nbytes <= 4096 for name in rest)
    assert built.graph.record["constants"] == len(rest)
    assert built.graph.files["graph.onnx"].size < 60_000


def test_the_pooler_that_nothing_uses_is_gone(exported):
    built = exported("bert", "sentence-embedding")

    assert not [name for name in built.graph.parameters if "pooler" in name]
    # Control: the checkpoint has one, and a classifier uses it.
    assert [name for name in exported("bert", "text-classification").graph.parameters if "pooler" in name]


def test_names_are_stable_and_unique(exported):
    for task in ("sentence-embedding", "text-classification"):
        model = onnx_graph.load(exported("bert", task).graph.files["graph.onnx"].path)
        names = [value.name for node in model.graph for value in node.outputs]
        names += [value.name for value in model.graph.inputs] + list(model.graph.initializers)
        assert len(names) == len(set(names))
        assert {value.name for value in model.graph.outputs} <= set(names)


def test_a_head_that_was_never_trained_is_refused(tmp_path):
    folder = make_model("bert", "sentence-embedding", tmp_path / "model")

    with pytest.raises(ModelError, match=r"no weights for .*classifier.*was not trained for text-classification"):
        trace(folder, "text-classification", tmp_path)


def test_its_key_holds_the_architecture_and_not_the_weights(exported, tmp_path):
    built = exported("bert", "text-classification")
    folder, stage = shutil.copytree(built.folder, tmp_path / "model"), Trace("text-classification")

    def key():
        return stage.fingerprint((source_of(folder), built.tokenizer))

    before, config = key(), json.loads((folder / "config.json").read_text())
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-4:] = b"\0\0\0\0"
    (folder / "model.safetensors").write_bytes(weights)
    labels = {
        "id2label": {"0": "a", "1": "b", "2": "c"},
        "label2id": {},
        "dtype": "float16",
        "transformers_version": "9",
    }
    write_json(folder / "config.json", {**config, **labels})
    (folder / "README.md").write_text("words")
    assert key() == before

    write_json(folder / "config.json", {**config, "hidden_act": "relu"})
    assert key() != before
    write_json(folder / "config.json", {**config, "a_key_that_nobody_knows": 1})
    assert key() != before


def test_a_damaged_checkpoint_is_refused_before_anything_runs(exported, tmp_path):
    built = exported("bert", "text-classification")
    folder = shutil.copytree(built.folder, tmp_path / "model")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])

    with pytest.raises(ModelError, match="cut off inside"):
        Trace("text-classification").requires((source_of(folder), built.tokenizer))


def test_two_checkpoints_of_one_architecture_give_the_same_graph(exported, tmp_path):
    """So no value of the first can be in it, and whoever finds it in the store may bind the other one to it."""
    built = exported("bert", "text-classification")
    folder = make_model("bert", "text-classification", tmp_path / "model", seed=1, num_labels=3)
    assert (folder / "model.safetensors").read_bytes() != built.source.files["model.safetensors"].path.read_bytes()
    source = source_of(folder)
    stage = Trace("text-classification")
    assert stage.fingerprint((source, built.tokenizer)) == stage.fingerprint((built.source, built.tokenizer))

    graph = stage.run((source, built.tokenizer), tmp_path)

    assert graph.files["graph.onnx"].sha256 == built.graph.files["graph.onnx"].sha256
    assert graph.parameters == built.graph.parameters
