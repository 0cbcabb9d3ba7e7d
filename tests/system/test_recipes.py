"""The example recipes with random weights: each is built, served and held against transformers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder import composition, pipeline
from builder.core import graph
from builder.core.execute import Executor
from builder.core.store import Store
from builder.package import gates
from builder.pipeline import SHARED, Surroundings, proof_of
from builder.recipe import Recipe, load
from builder.settings import settings
from builder.verify import PASSED, Judge, Measure

if TYPE_CHECKING:
    from builder.artifacts import Reference

FOLDER = Path(__file__).parent.parent.parent / "recipes"
NAMES = (
    *("image-classifier", "named-entities", "question-answering", "rerank", "select-by-language"),
    *("tiny-classifier", "vote"),
)


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Executor:
    return Executor(Store.at(tmp_path_factory.mktemp("store")))


def build(recipe: Any, executor: Executor) -> tuple[dict[str, Any], Reference]:
    order, last = (pipeline, "reference") if isinstance(recipe, Recipe) else (composition, "expected")
    around = Surroundings(settings().cache, executor.store.ingest)
    made = graph.run(order.nodes(recipe, (), around, verify=False), executor.run)
    assert made.errors == {}
    ids = {stage: order.node_id(recipe, "cpu", stage) for stage in ("package", "pack")}
    values = {stage: made.values[node] for stage, node in ids.items()}
    return values, made.values[order.node_id(recipe, SHARED, last)]


def test_every_example_that_needs_no_hub_is_here() -> None:
    examples = [path for path in FOLDER.glob("*.yaml") if "architecture:" in path.read_text(encoding="utf-8")]
    assert sorted(path.stem for path in examples) == sorted(NAMES)


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_built_and_proven(name: str, executor: Executor) -> None:
    recipe = load(FOLDER / f"{name}.yaml")
    made, reference = build(recipe, executor)

    measured = executor.run(Measure(settings().cache, ()), proof_of(recipe, "cpu", made, reference), name)
    tolerances = gates(recipe, "cpu", reference.metric).tolerances
    verdict = Judge(tolerances).judge(measured)

    assert (verdict.status, verdict.reasons) == (PASSED, ())
    assert measured.parity["controls"].keys() >= {"shuffled", *reference.controls}
    impossible = {key: -1.0 if key == "max_difference" else 2.0 for key in tolerances}
    assert Judge(impossible).judge(measured).status != PASSED  # the comparison can fail
