"""What a sweep writes, a recipe reads: from the setting that won to the served config."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from builder import building
from builder.errors import UserError
from builder.recipe import load
from builder.settings import settings
from builder.sweep.setting import Setting
from builder.sweep.tuned import facts, section, winners, write_tuned
from tests.models import make_model
from tests.recipe.test_tuned import COMPOSED
from tests.sweep import points

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """\
schema_version: 1
name: tiny
source: {path: model}
task: sentence-embedding
targets: {cpu: {runtime: onnxruntime, hardware: {vcpus: 4}}}
serving: {dynamic_batching: {max_queue_delay_microseconds: 100}, instance_group: [{count: 1, kind: KIND_CPU}]}
"""
WINNER = Setting.of(
    {
        "instance_group.count": 3,
        "max_batch_size": 4,
        "dynamic_batching": True,
        "dynamic_batching.max_queue_delay_microseconds": 700,
        "dynamic_batching.preferred_batch_size": (2, 4),
        "tokenize:instance_group.count": 2,
        "@padding": "buckets",
    }
)
OWN = {"parameters": {"intra_op_thread_count": {"string_value": "4"}}}


@pytest.fixture
def recipe(tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return load(tmp_path / "recipe.yaml")


def tuned(recipe, path: Path, winner: Setting = WINNER):
    write_tuned(path, recipe, {"cpu": section(recipe, "cpu", winner, OWN)}, {"cpu": {"throughput": 12.5}})
    return load(recipe.path, (f"tuned={path}",))


def test_the_winner_comes_back_whole(recipe, tmp_path: Path) -> None:
    found = tuned(recipe, tmp_path / "deep" / "best.yaml").for_target("cpu")
    serving = found.serving
    assert serving.max_batch_size == 4
    assert (serving.instance_group[0].count, serving.instance_group[0].kind) == (3, "KIND_CPU")
    assert serving.dynamic_batching.max_queue_delay_microseconds == 700
    assert serving.dynamic_batching.preferred_batch_size == (2, 4)
    assert serving.steps["tokenize"].instance_group[0].count == 2
    assert found.inputs.padding == "buckets"
    # Another number of copies would make a build choose other threads than those that were measured.
    assert serving.parameters["intra_op_thread_count"] == "4"
    assert found.path == recipe.path


@pytest.mark.parametrize(
    ("winner", "written"),
    [
        ({"dynamic_batching": False}, {"serving": {"dynamic_batching": False}}),
        ({"dynamic_batching": True}, {"serving": {"dynamic_batching": {}}}),
        (
            {"parameters.intra_op_thread_count": 2, "instance_group.count": 1},
            {
                "serving": {
                    "parameters": {"intra_op_thread_count": "2"},
                    "instance_group": [{"count": 1, "kind": "KIND_CPU"}],
                }
            },
        ),
        ({"parameters.intra_op_thread_count": None}, {"serving": {"parameters": {"intra_op_thread_count": None}}}),
        ({"optimization.cuda.graphs": True}, {"serving": {"optimization": {"cuda": {"graphs": True}}}}),
        ({"@precision": "int8", "@target": "cpu"}, {"precision": "int8"}),
        ({"@padding": "buckets", "@buckets": (16, 256)}, {"padding": "buckets", "buckets": [16, 256]}),
        ({}, {}),
    ],
)
def test_each_knob_is_written_as_a_recipe_has_it(recipe, tmp_path: Path, winner, written) -> None:
    setting = Setting.of(winner)
    assert section(recipe, "cpu", setting, {"parameters": {}}) == written
    tuned(recipe, tmp_path / "best.yaml", setting)


def test_each_target_has_a_winner_of_its_own() -> None:
    found = points.swept()
    met = [one for one in found.ranking if one.verdict == "met"]
    named = [
        replace(one, point=replace(one.point, setting=one.point.setting.with_({"@target": target})))
        for one, target in zip(met, ("gpu", "gpu", "cpu", "cpu"), strict=False)
    ]
    assert winners(replace(found, ranking=tuple(named)), "cpu") == {"gpu": named[0], "cpu": named[2]}
    assert winners(found, "cpu") == {"cpu": found.winner}
    assert winners(replace(found, ranking=()), "cpu") == {}
    assert facts(found, met[1])["load"] == met[1].point.load.label


def test_a_second_sweep_keeps_what_it_did_not_vary(recipe, tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    first = tuned(recipe, path)
    second = tuned(first, path, Setting.of({"dynamic_batching.max_queue_delay_microseconds": 50})).for_target("cpu")
    assert second.serving.dynamic_batching.max_queue_delay_microseconds == 50
    assert (second.serving.max_batch_size, second.serving.instance_group[0].count) == (4, 3)
    assert second.inputs.padding == "buckets"


def test_in_named_steps_the_main_model_is_one_of_them(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(COMPOSED.replace("tuned: best.yaml\n", ""))
    recipe = load(tmp_path / "recipe.yaml")
    winner = Setting.of({"max_batch_size": 4, "instance_group.count": 3, "words:instance_group.count": 2})
    write_tuned(tmp_path / "best.yaml", recipe, {"cpu": section(recipe, "cpu", winner, OWN, "vectors")}, {})
    found = load(recipe.path, (f"tuned={tmp_path / 'best.yaml'}",)).for_target("cpu")
    assert found.serving.max_batch_size == 4
    assert found.pipeline.steps["words"].serving.instance_group[0].count == 2
    model = found.models["one"].serving
    assert (model.instance_group[0].count, model.parameters["intra_op_thread_count"]) == (3, "4")


def test_what_is_said_of_other_targets_stays(recipe, tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    write_tuned(path, recipe, {"gpu": {"precision": "fp16"}}, {"gpu": 1})
    write_tuned(path, recipe, {"cpu": {"serving": {}}}, {"cpu": 2})
    text = path.read_text()
    assert text.startswith("# Settings that `tritonsmith sweep` found")
    assert "precision: fp16" in text
    assert "cpu: 2" in text
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("name: tiny", "name: other"))
    with pytest.raises(UserError, match="is there, and is no file of settings for 'other'"):
        write_tuned(path, load(tmp_path / "recipe.yaml"), {}, {})
    assert path.read_text() == text


def test_what_was_tuned_is_what_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way: written by a sweep, named by a recipe, planned with a reason, built, told in the manifest."""
    (tmp_path / "cache").mkdir()
    shared = settings().cache / "wheels"
    shared.mkdir(parents=True, exist_ok=True)
    (tmp_path / "cache/wheels").symlink_to(shared)
    monkeypatch.setenv("TRITONSMITH_CACHE", str(tmp_path / "cache"))
    make_model("bert", "sentence-embedding", tmp_path / "model")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    plain = load(tmp_path / "recipe.yaml")
    (before,) = building.build(plain, out=tmp_path / "out", verify=False)
    found = tuned(plain, tmp_path / "best.yaml")
    why = {node.stage: node for node in building.plan([found])}
    assert why["bind"].state == "hit"
    assert why["config"].state == "run"
    assert "serving.max_batch_size: null → 4" in why["config"].changes
    (after,) = building.build(found, out=tmp_path / "out", verify=False)

    def config(result, model: str) -> str:
        with tarfile.open(result.delivery.archive.file.path) as tar:
            return tar.extractfile(f"{model}/config.pbtxt").read().decode()

    served = config(after, "tiny-model")
    assert 'string_value: "4"' in served
    for line in ("max_batch_size: 4", "count: 3", "max_queue_delay_microseconds: 700"):
        assert line in served
        assert line not in config(before, "tiny-model")
    assert "count: 2" in config(after, "tiny-tokenize")
    manifest = json.loads(after.delivery.manifest_path.read_text())["recipe"]
    assert manifest["tuned"]["file"] == "best.yaml"
    assert "serving.max_batch_size: (none) → 4" in manifest["tuned"]["changed"]
    assert "tuned" not in json.loads(before.delivery.manifest_path.read_text())["recipe"]
