"""Other tasks, from recipe to verdict on the real server, in this process: the command is tested elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from builder import pipeline
from builder.core.execute import Executor
from builder.core.store import Store
from builder.errors import RecipeError
from builder.package import gates
from builder.pipeline import Surroundings, nodes, proof_of
from builder.recipe import load
from builder.settings import settings
from builder.verify import FAILED, PASSED, Judge, Measure
from tests.models import MAX_LENGTH, make_image_model, make_model

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """\
schema_version: 1
name: tiny
source: {{path: model}}
task: {task}
shapes: {{batch: {{max: 8}}}}
"""


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.parametrize("task", ["question-answering"])  # text-ranking: test_recipes.py
def test_pairs_are_answered_as_by_transformers(task: str, tmp_path: Path) -> None:
    make_model("bert", task, tmp_path / "model")
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(task=task))
    recipe, cache = load(tmp_path / "recipe.yaml"), settings().cache
    executor, made = Executor(Store.at(tmp_path / "store"), "test"), dict[str, Any]()
    for node in nodes(recipe, (), Surroundings(cache, Store.at(tmp_path / "store").describe), verify=False):
        assert node.prepare is not None
        made[node.id] = executor.run(*node.prepare(node.inputs(made)))
    named = {node.rpartition("/")[2]: value for node, value in made.items()}
    assert named["tokenizer"].max_length == MAX_LENGTH

    measured = executor.run(Measure(cache, ()), proof_of(recipe, "cpu", named, named["reference"]))
    tolerances = gates(recipe, "cpu", "logits").tolerances
    verdict = Judge(tolerances).judge(measured)

    assert (verdict.status, verdict.reasons) == (PASSED, ())
    assert {way["figures"]["max_difference"] < 1e-5 for way in measured.parity["ways"].values()} == {True}
    assert measured.parity["controls"].keys() == {"shuffled", *named["reference"].controls}
    assert Judge({"max_difference": 1e-12}).judge(measured).status == FAILED  # the comparison can fail


def test_images_are_exported_and_need_a_pipeline_of_steps(tmp_path: Path) -> None:
    make_image_model("vit", tmp_path / "model")
    path, store = tmp_path / "recipe.yaml", Store.at(tmp_path / "store")
    path.write_text(RECIPE.format(task="image-classification").replace("verify:", "# verify:"))
    recipe, around = load(path), Surroundings(tmp_path, store.describe)
    named, executor = dict[str, Any](), Executor(store, "test")
    for node in pipeline.export_nodes(recipe, around):
        assert node.prepare is not None
        named[node.stage] = executor.run(*node.prepare({name: named[name] for name in node.needs}))
    assert list(named) == ["source", "processor", "trace", "bind", "reference", "check"]
    assert [check["batch"] for check in named["check"].record["checks"]] == [1, 5, 8]

    with pytest.raises(RecipeError, match="task image-classification needs a pipeline of steps: image → model"):
        nodes(recipe, (), around)
