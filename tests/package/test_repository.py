from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from builder import __version__
from builder.core.digest import digest_json, digest_tree
from builder.errors import InternalError
from builder.package import PackageInputs, package
from builder.settings import settings
from builder.tools import templates, wheels
from tests.package.conftest import load_recipe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.package.conftest import Built


@pytest.fixture
def inputs(built: Built) -> PackageInputs:
    parts = built.parts
    return PackageInputs(parts.source, parts.model, parts.tokenizer, built.configs)


def test_the_layout(built: Built) -> None:
    """Golden: one folder per model, nothing else at the top, nothing hidden."""
    paths = [path for path in built.repository.files if "/vendor/" not in path]
    assert paths == [
        "tiny-model/1/model.data",
        "tiny-model/1/model.onnx",
        "tiny-model/config.pbtxt",
        "tiny-model/warmup/attention_mask",
        "tiny-model/warmup/input_ids",
        "tiny-model/warmup/token_type_ids",
        "tiny-tokenize/1/model.py",
        "tiny-tokenize/1/settings.json",
        "tiny-tokenize/1/tokenizer.json",
        "tiny-tokenize/config.pbtxt",
        "tiny/1/build.json",
        "tiny/config.pbtxt",
    ]
    vendored = [path for path in built.repository.files if "/vendor/" in path]
    assert all(path.startswith("tiny-tokenize/1/vendor/tokenizers") for path in vendored)
    assert "tiny-tokenize/1/vendor/tokenizers/tokenizers.abi3.so" in vendored
    assert list(built.repository.files) == sorted(built.repository.files)


def test_the_step_is_the_template(built: Built) -> None:
    step = built.repository.files["tiny-tokenize/1/model.py"].path
    assert step.read_bytes() == templates.path("steps/tokenize/model.py").read_bytes()


def test_weights_are_not_copied(built: Built) -> None:
    blob = built.repository.files["tiny-model/1/model.data"]
    assert blob.sha256 == built.parts.model.files["model.data"].sha256
    assert blob.path.parts[-3] == "blobs"
    assert blob.path.stat().st_nlink == 1


def test_build_json_tells_what_the_archive_is(built: Built) -> None:
    build = json.loads(built.repository.files["tiny/1/build.json"].path.read_text(encoding="utf-8"))
    files = build.pop("files")
    recipe = build.pop("recipe")
    assert build == {
        "schema": 1,
        "name": "tiny",
        "target": "cpu",
        "task": "sentence-embedding",
        "source": {"kind": "path", "model_id": "tiny", "revision": None, "licence": "apache-2.0"},
        "labels": [],
        "tritonsmith": __version__,
    }
    assert len(recipe) == 64
    wanted = {path for path in built.repository.files if "/vendor/" not in path} - {"tiny/1/build.json"}
    assert files == {path: built.repository.files[path].sha256 for path in wanted}


def test_nothing_of_this_machine_is_in_the_text_files(built: Built) -> None:
    for path, file in built.repository.files.items():
        if not path.endswith((".so", ".onnx", ".data")):
            content = file.path.read_bytes()
            assert b"/tmp" not in content, path
            assert b"/home" not in content, path


def test_the_record(built: Built) -> None:
    record = built.repository.record
    assert record["models"] == ["tiny", "tiny-tokenize", "tiny-model"]
    assert record["max_batch_size"] == 32
    assert record["text_pair"] is False
    [name] = record["wheels"]
    assert name.startswith(f"tokenizers-{wheels.installed_version('tokenizers')}-")


def test_equal_inputs_give_equal_trees(built: Built, build: Callable[..., Built]) -> None:
    assert digest_tree(build(parts=built.parts).repository.files) == built.archive.tree_digest
    assert digest_tree(build("serving.max_batch_size=4").repository.files) != built.archive.tree_digest


@pytest.mark.parametrize("override", ["verify.sweep.concurrency=[9]", "description=other", "verify.constraints={}"])
def test_how_an_archive_is_proven_is_not_in_it(tmp_path: Path, override: str) -> None:
    stages = [package(load_recipe(tmp_path, *values), "cpu", settings().cache) for values in ((), (override,))]
    assert stages[0] == stages[1]


def test_another_target_of_the_recipe_changes_nothing(tmp_path: Path) -> None:
    one, two = (
        "{cpu: {runtime: onnxruntime}}",
        "{cpu: {runtime: onnxruntime}, more: {runtime: onnxruntime, triton: '25.08'}}",
    )
    stages = [package(load_recipe(tmp_path, f"targets={t}"), "cpu", settings().cache) for t in (one, two)]
    assert stages[0] == stages[1]
    other = package(load_recipe(tmp_path, f"targets={two}"), "more", settings().cache)
    assert other.recipe != stages[0].recipe


def test_the_wheel_is_for_the_python_of_the_container(tmp_path: Path) -> None:
    for release, python in (("24.10", (3, 10)), ("25.09", (3, 12))):
        recipe = load_recipe(tmp_path, f"targets.cpu={{runtime: onnxruntime, triton: '{release}'}}")
        assert package(recipe, "cpu", settings().cache).python == python


def test_the_key_holds_what_changes_the_bytes(built: Built, inputs: PackageInputs, tmp_path: Path) -> None:
    stage = package(built.recipe, "cpu", settings().cache)
    fewer = replace(inputs.model, files={"model.onnx": inputs.model.files["model.onnx"]})
    changed: list[tuple[Any, PackageInputs]] = [
        (stage, inputs),
        (replace(stage, target="other"), inputs),
        (replace(stage, recipe={**stage.recipe, "name": "other"}), inputs),
        (replace(stage, python=(3, 10)), inputs),
        (stage, replace(inputs, labels=("a",))),
        (stage, replace(inputs, source=replace(inputs.source, licence="mit"))),
        (stage, replace(inputs, model=fewer)),
    ]
    assert len({digest_json(stage.fingerprint(given)) for stage, given in changed}) == len(changed)
    assert stage.fingerprint(inputs) == replace(stage, cache=tmp_path).fingerprint(inputs)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("tiny/.hidden", "is hidden"),
        ("tiny-model/1/__pycache__/x.pyc", "is hidden, or left by a tool"),
        ("other/config.pbtxt", "holds"),
        ("README.md", "holds"),
    ],
)
def test_what_hosts_would_stumble_over_is_caught(built: Built, inputs: PackageInputs, path: str, problem: str) -> None:
    stage = package(built.recipe, "cpu", settings().cache)
    file = built.repository.files["tiny/config.pbtxt"]
    stage.ensures(inputs, built.repository)
    with pytest.raises(InternalError, match=problem):
        stage.ensures(inputs, replace(built.repository, files={**built.repository.files, path: file}))


@pytest.mark.parametrize(
    ("prefix", "problem"),
    [("tiny/1/", "tiny has no version 1"), ("tiny/config", "tiny has no config"), ("tiny/", "holds")],
)
def test_what_is_missing_is_caught(built: Built, inputs: PackageInputs, prefix: str, problem: str) -> None:
    files = {path: file for path, file in built.repository.files.items() if not path.startswith(prefix)}
    with pytest.raises(InternalError, match=problem):
        package(built.recipe, "cpu", settings().cache).ensures(inputs, replace(built.repository, files=files))


def test_a_model_without_a_graph_is_a_bug(built: Built, inputs: PackageInputs) -> None:
    with pytest.raises(InternalError, match=r"the model has no model\.onnx"):
        package(built.recipe, "cpu", settings().cache).requires(replace(inputs, model=replace(inputs.model, files={})))
