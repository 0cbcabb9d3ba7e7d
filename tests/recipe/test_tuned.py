"""The file that ``tuned:`` names: what wins over what, whose it is, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.errors import RecipeError
from builder.package import gates
from builder.recipe import load
from tests.recipe.conftest import MINIMAL

if TYPE_CHECKING:
    from pathlib import Path

BASE = (
    MINIMAL
    + """\
serving:
  max_batch_size: 16
  dynamic_batching: {max_queue_delay_microseconds: 500, preserve_ordering: true}
  parameters: {intra_op_thread_count: "4", kept: "1"}
targets:
  small: {runtime: onnxruntime, hardware: {vcpus: 2}}
  large: {runtime: onnxruntime, hardware: {vcpus: 16}}
tuned: best.yaml
"""
)
TUNED = """\
schema_version: 1
recipe: tiny
targets:
  small:
    serving:
      max_batch_size: 8
      dynamic_batching: {max_queue_delay_microseconds: 1000}
      instance_group: [{count: 2}]
      parameters: {intra_op_thread_count: null}
    steps: {tokenize: {instance_group: [{count: 2}]}}
    precision: int8
    padding: buckets
"""


@pytest.fixture
def tuned(tmp_path: Path):
    """Loads the recipe with such a file beside it."""

    def load_with(text: str = TUNED, *overrides: str):
        (tmp_path / "recipe.yaml").write_text(BASE)
        (tmp_path / "best.yaml").write_text(text)
        return load(tmp_path / "recipe.yaml", overrides)

    return load_with


@pytest.fixture
def refused(tuned, tmp_path: Path):
    def refused(text: str, *overrides: str) -> list[str]:
        with pytest.raises(RecipeError) as caught:
            tuned(text, *overrides)
        return str(caught.value).replace(f"{tmp_path}/", "").split("\n")

    return refused


def test_a_target_has_its_settings_and_no_other_target_has(tuned) -> None:
    recipe = tuned()
    small, large = (recipe.for_target(name) for name in ("small", "large"))
    assert small.serving.max_batch_size == 8
    assert small.serving.dynamic_batching.max_queue_delay_microseconds == 1000
    assert small.serving.dynamic_batching.preserve_ordering is True  # the recipe's, beside what is tuned
    assert dict(small.serving.parameters) == {"kept": "1"}  # null takes back
    assert small.serving.steps["tokenize"].instance_group[0].count == 2
    assert (small.targets["small"].precision, small.inputs.padding) == ("int8", "buckets")
    assert large is recipe
    assert (recipe.serving.max_batch_size, recipe.targets["small"].precision) == (16, "fp32")
    assert gates(recipe, "small", "cosine").tolerances != gates(recipe, "large", "cosine").tolerances


def test_set_comes_before_what_is_tuned(tuned) -> None:
    small = tuned(TUNED, "serving.max_batch_size=4", "targets.small.precision=fp32").for_target("small")
    assert (small.serving.max_batch_size, small.targets["small"].precision) == (4, "fp32")
    assert small.serving.instance_group[0].count == 2


def test_what_it_changed_is_told(tuned) -> None:
    facts = tuned().tuned_facts("small")
    assert facts["file"] == "best.yaml"
    assert len(facts["sha256"]) == 64
    assert "serving.max_batch_size: 16 → 8" in facts["changed"]
    assert "targets.small.precision: fp32 → int8" in facts["changed"]
    assert tuned().tuned_facts("large") is None


def test_where_it_lies_and_what_it_is_called_changes_no_key(tuned, tmp_path: Path) -> None:
    first = tuned().for_target("small").keyed()
    (tmp_path / "best.yaml").rename(tmp_path / "other.yaml")
    second = load(tmp_path / "recipe.yaml", ("tuned=other.yaml",)).for_target("small").keyed()
    assert first == second
    assert "tuned" not in first


def test_a_mapping_may_become_false_and_false_a_mapping(tuned) -> None:
    off = TUNED.replace("{max_queue_delay_microseconds: 1000}", "false")
    assert tuned(off).for_target("small").serving.dynamic_batching is False


def changed(old: str, new: str) -> str:
    assert old in TUNED
    return TUNED.replace(old, new)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            changed("recipe: tiny", "recipe: tony"),
            (
                "best.yaml:2:9: recipe: was written for 'tony', and this recipe is 'tiny' (recipe.yaml:2:7): "
                "sweep this one"
            ),
        ),
        (
            changed("  small:", "  smal:"),
            (
                "best.yaml:4:3: targets.smal: the recipe has no such target; allowed: small, large; "
                "did you mean 'small'?"
            ),
        ),
        (
            changed("max_batch_size: 8", "max_batch_sice: 8"),
            (
                "best.yaml:6:7: targets.small.serving.max_batch_sice: no setting that a sweep writes; allowed: "
                "max_batch_size, dynamic_batching, instance_group, parameters, response_cache, optimization; "
                "did you mean 'max_batch_size'?"
            ),
        ),
        (
            changed("max_batch_size: 8", "max_batch_size: 64"),
            "best.yaml:6:23: serving.max_batch_size: 64 is more than shapes.batch.max (the default), which is 32",
        ),
        (
            changed("[{count: 2}]\n      par", "[{count: 0}]\n      par"),
            "best.yaml:8:32: serving.instance_group.0.count: must be at least 1, got the number 0",
        ),
        (
            changed("precision: int8", "precision: fp16"),
            (
                "best.yaml:11:16: targets.small.precision: onnxruntime on a CPU does not compute in fp16; "
                "allowed: fp32, int8"
            ),
        ),
        (
            changed("schema_version: 1", "schema_version: 2"),
            "best.yaml:1:17: schema_version: this tritonsmith reads version 1, got version 2",
        ),
        (
            changed("tokenize:", "tokenise:"),
            (
                "best.yaml:10:23: serving.steps.tokenise: must be 'tokenize', got the string 'tokenise'; "
                "did you mean 'tokenize'?"
            ),
        ),
    ],
)
def test_what_is_wrong_with_it_has_a_place(refused, text: str, told: str) -> None:
    assert refused(text) == [told]


def test_a_file_that_is_none(refused, tmp_path: Path) -> None:
    assert refused("targets: [1, 2]\nmore: 1\n") == [
        "best.yaml:1:1: schema_version: missing; it has no default",
        "best.yaml:1:1: recipe: missing; it has no default",
        "best.yaml:1:10: targets: must be a mapping, got a list",
        "best.yaml:2:1: more: unknown key; allowed: schema_version, recipe, targets, swept",
    ]
    assert refused("a: [", "tuned=best.yaml")[0].startswith("best.yaml:1:")
    (line,) = refused(TUNED, "tuned=nowhere.yaml")
    assert line.startswith("--set tuned=nowhere.yaml: tuned: nowhere.yaml: no such file; a sweep writes it")


COMPOSED = """\
schema_version: 1
name: pair
models:
  one: {source: {path: model}, task: sentence-embedding}
pipeline:
  steps:
    words: {tokenizer: one}
    vectors: {model: one}
  outputs: {EMBEDDING: vectors.EMBEDDING}
tuned: best.yaml
"""
OF_STEPS = """\
schema_version: 1
recipe: pair
targets:
  cpu:
    serving: {max_batch_size: 4}
    steps:
      words: {instance_group: [{count: 2}]}
      vectors: {instance_group: [{count: 3}]}
"""


def test_steps_of_a_pipeline_have_theirs(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(COMPOSED)
    (tmp_path / "best.yaml").write_text(OF_STEPS)
    found = load(tmp_path / "recipe.yaml").for_target("cpu")
    assert found.serving.max_batch_size == 4
    assert found.pipeline.steps["words"].serving.instance_group[0].count == 2
    assert found.models["one"].serving.instance_group[0].count == 3  # a model's step is told of with the model
    (tmp_path / "best.yaml").write_text(OF_STEPS.replace("words:", "wards:"))
    with pytest.raises(RecipeError, match=r"best\.yaml:.*wards"):
        load(tmp_path / "recipe.yaml")
