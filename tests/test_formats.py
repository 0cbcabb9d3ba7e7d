"""The nodes of a recipe with several formats: what they share, and what each has of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder import building, composition, pipeline
from builder.pipeline import Surroundings
from builder.recipe import load

if TYPE_CHECKING:
    from builder.core.graph import Node

RECIPES = Path(__file__).parents[1] / "recipes"
FORMATS = ("triton", "sagemaker", "sagemaker-mme", "s3-prefix")


def nodes_of(name: str, order: Any) -> tuple[Any, dict[str, Node]]:
    recipe = load(RECIPES / f"{name}.yaml", [f"package.formats=[{', '.join(FORMATS)}]"])
    around = Surroundings(Path("cache"), lambda path: pytest.fail(f"{path} is read"))
    nodes = order.nodes(recipe, (), around)
    assert len({node.id for node in nodes}) == len(nodes)
    return recipe, {node.id: node for node in nodes}


@pytest.mark.parametrize(("name", "order"), [("tiny-classifier", pipeline), ("vote", composition)])
def test_formats_share_all_up_to_the_repository(name: str, order: Any) -> None:
    recipe, nodes = nodes_of(name, order)
    stages = [tuple(node.split("/")[-2:]) for node in nodes if "/cpu/" in node]
    shared = ["config", "package"]
    assert [stage for form, stage in stages if form == "triton"] == [*shared, "pack", "measure", "judge"]
    for form in FORMATS[1:]:
        assert [stage for of, stage in stages if of == form] == ["pack", "measure", "judge"]
        packs = nodes[order.node_id(recipe, "cpu", "pack", form)]
        assert packs.needs["package"].endswith("/cpu/triton/package")
        needs = order.needs(recipe, "cpu", form, verify=True)
        assert needs["pack"] == packs.id
        assert set(needs.values()) <= set(nodes)


def test_each_format_but_the_plain_one_has_a_folder(tmp_path: Path) -> None:
    folders = {form: building._Destination(tmp_path, form, verify=True) for form in FORMATS}
    assert folders["triton"].folder(passed=True) == tmp_path
    assert folders["sagemaker"].folder(passed=True) == tmp_path / "sagemaker"
    assert folders["sagemaker-mme"].folder(passed=False) == tmp_path / "rejected" / "sagemaker-mme"
