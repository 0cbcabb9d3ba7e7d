"""What `plan` shows of what is wrong outside the recipe."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from builder import building
from builder.core.graph import Node
from builder.core.plan import plan
from builder.core.store import Store
from builder.errors import MachineError, ModelError
from builder.recipe import load
from builder.tools import toolchain
from tests.models import make_model

if TYPE_CHECKING:
    from pathlib import Path

    from builder.recipe import Recipe

RECIPE = """\
schema_version: 1
name: tiny
source: {path: model}
task: sentence-embedding
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    make_model("bert", "sentence-embedding", tmp_path / "model")
    (tmp_path / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
    loaded = load(tmp_path / "tiny.yaml")
    now = replace(building.settings(), cache=tmp_path / "cache")
    monkeypatch.setattr(building, "settings", lambda: now)
    return loaded


def refuse() -> None:
    raise MachineError("libpython3.11.so.1.0 was not found")


def test_weights_that_cannot_be_read_block_the_stage(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"

    def prepare(_: object) -> tuple[Any, Any]:
        raise PermissionError(13, "Permission denied", str(weights))

    made = [Node("r/source", {}, prepare), Node("r/trace", {"it": "r/source"}, prepare)]
    planned = plan(made, Store.at(tmp_path / "store"))
    assert [(one.state, one.why) for one in planned] == [
        ("blocked", f"{weights}: Permission denied"),
        ("blocked", "needs source"),
    ]


def test_a_machine_that_cannot_serve_blocks_the_proof_alone(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {one.stage: one for one in building.plan([recipe])}
    assert before["measure"].state != "blocked"
    monkeypatch.setattr(toolchain, "find_interpreter", refuse)
    after = {one.stage: one for one in building.plan([recipe])}
    assert (after["measure"].state, after["measure"].why) == ("blocked", "libpython3.11.so.1.0 was not found")
    assert (after["judge"].state, after["judge"].why) == ("blocked", "needs measure")
    assert {name: one for name, one in after.items() if name not in {"measure", "judge"}} == {
        name: one for name, one in before.items() if name not in {"measure", "judge"}
    }


def test_nothing_is_built_that_could_not_be_proven(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(toolchain, "find_interpreter", refuse)
    with pytest.raises(MachineError, match="libpython"):
        building.build_all([recipe], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    # Unverified, it gets as far as what is wrong with the model.
    (tmp_path / "model" / "config.json").unlink()
    built = building.build_all([recipe], out=tmp_path / "out", verify=False)
    assert [type(error) for error in built.errors.values()] == [ModelError]
