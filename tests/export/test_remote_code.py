"""Models that bring Python code of their own: refused, unless the recipe allows it in words."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from builder.artifacts import Sample
from builder.errors import ModelError
from builder.export.bind import Bind
from builder.export.reference import Refer
from builder.export.source import Resolve
from builder.recipe.source import Allow, PathSource
from tests.export.builds import export, source_of
from tests.models import make_model

TASK = "sentence-embedding"

CONFIGURATION = """\
from transformers import BertConfig


class MineConfig(BertConfig):
    model_type = "mine"
"""

MODELING = """\
from transformers import BertModel

from .configuration_mine import MineConfig


class MineModel(BertModel):
    config_class = MineConfig

    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, **kwargs):
        output = super().forward(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids, **kwargs)
        output.last_hidden_state = output.last_hidden_state * 2 + 1
        return output
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A BERT whose own code changes its answer: whoever does not run it answers otherwise."""
    folder = make_model("bert", TASK, tmp_path_factory.mktemp("mine") / "model")
    edit(folder, model_type="mine", auto_map={
        "AutoConfig": "configuration_mine.MineConfig", "AutoModel": "modeling_mine.MineModel",
    })  # fmt: skip
    (folder / "configuration_mine.py").write_text(CONFIGURATION)
    (folder / "modeling_mine.py").write_text(MODELING)
    return folder


def reference_key(exported, folder, *, allowed=True):
    return Refer(TASK).fingerprint((source_of(folder, remote_code=allowed), exported.tokenizer, [Sample("text")]))


def bind_key(graph, folder):
    return Bind(TASK).fingerprint((graph, source_of(folder, remote_code=True)))


def edit(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_code_runs_where_the_recipe_allows_it(mine, tmp_path):
    allowed = PathSource(path=mine, allow=Allow(remote_code=True))
    (tmp_path / "out").mkdir()
    source = Resolve(TASK).run(allowed, tmp_path / "out")
    assert source.remote_code
    assert {"modeling_mine.py", "configuration_mine.py"} <= set(source.files)
    exported = export(mine, TASK, tmp_path / "allowed", remote_code=True)

    # Control: the same weights without the model's code answer otherwise.
    plain = tmp_path / "plain"
    plain.mkdir()
    for path in mine.iterdir():
        if path.suffix != ".py":
            (plain / path.name).write_bytes(path.read_bytes())
    edit(plain, model_type="bert")
    config = json.loads((plain / "config.json").read_text())
    del config["auto_map"]
    (plain / "config.json").write_text(json.dumps(config))
    ordinary = export(plain, TASK, tmp_path / "ordinary")

    # The code is part of the reference's key, and of bind's where it takes values from the loaded model.
    changed = tmp_path / "changed"
    shutil.copytree(mine, changed)
    (changed / "modeling_mine.py").write_text(MODELING.replace("* 2", "* 3"))
    assert reference_key(exported, mine) != reference_key(exported, changed)
    assert reference_key(exported, mine, allowed=False) == reference_key(exported, changed, allowed=False)
    assert bind_key(exported.graph, mine) == bind_key(exported.graph, changed)
    loaded = dataclasses.replace(exported.graph, parameters=dict.fromkeys(exported.graph.parameters, ""))
    assert bind_key(loaded, mine) != bind_key(loaded, changed)

    difference = np.abs(exported.expected["EMBEDDING"] - ordinary.expected["EMBEDDING"]).max()
    assert difference > 0.01


def test_code_is_part_of_the_key(mine, tmp_path):
    allowed = PathSource(path=mine, allow=Allow(remote_code=True))
    before = Resolve(TASK).fingerprint(allowed)
    changed = tmp_path / "changed"
    changed.mkdir()
    for path in mine.iterdir():
        (changed / path.name).write_bytes(path.read_bytes())
    (changed / "modeling_mine.py").write_text(MODELING.replace("* 2", "* 3"))
    after = Resolve(TASK).fingerprint(PathSource(path=changed, allow=Allow(remote_code=True)))
    assert before["files"]["modeling_mine.py"] != after["files"]["modeling_mine.py"]


def test_code_of_another_repository_is_refused(mine, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for path in mine.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    edit(other, auto_map={"AutoModel": "someone/else--modeling.Mine"})
    with pytest.raises(ModelError, match="the code is in another repository"):
        Resolve(TASK).fingerprint(PathSource(path=other, allow=Allow(remote_code=True)))
