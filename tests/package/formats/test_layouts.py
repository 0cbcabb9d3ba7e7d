"""Each format's arrangement of a repository, and what lint says of it."""

from __future__ import annotations

from typing import get_args

import pytest

from builder.artifacts import Repository
from builder.core.digest import describe_folder
from builder.errors import InternalError, UserError
from builder.lint import Options, lint
from builder.package.formats import REGISTRY, layouts
from builder.recipe.verify import Format
from builder.tools import archive as archives
from builder.verify.contract import probe

ENSEMBLE = """
name: "{name}"
platform: "ensemble"
max_batch_size: 8
input {{ name: "X" data_type: TYPE_FP32 dims: [2] }}
output {{ name: "Y" data_type: TYPE_FP32 dims: [2] }}
ensemble_scheduling {{ step {{ model_name: "{step}" model_version: -1
  input_map {{ key: "X" value: "X" }} output_map {{ key: "Y" value: "Y" }} }} }}
"""


def ensemble(name, step):
    return {f"{name}/config.pbtxt": ENSEMBLE.format(name=name, step=step), f"{name}/1/build.json": "{}"}


ONE = probe.texts("one", folder="one/")
NESTED = ensemble("outer", "inner") | ensemble("inner", "last") | probe.texts("last", folder="last/")


@pytest.fixture
def make_repository(tmp_path):
    def make(name, texts, **record):
        folder = tmp_path / "repository"
        probe.write(folder, texts)
        return Repository(name=name, files=describe_folder(folder), record=record)

    return make


def arranged(name, repository):
    (servable,) = REGISTRY[name].arrange(repository)
    return servable


@pytest.mark.parametrize("name", REGISTRY)
def test_each_format_has_one_servable_with_all_models(name, make_repository, tmp_path):
    repository = make_repository("outer", NESTED)
    servable = arranged(name, repository)
    assert servable.name == "outer"
    assert servable.models == ("inner", "last", "outer")
    assert servable.tree(tmp_path / "written").keys() == repository.files.keys()


@pytest.mark.parametrize("name", ["triton", "sagemaker", "s3-prefix"])
def test_most_formats_change_no_byte(name, make_repository):
    repository = make_repository("outer", NESTED)
    servable = arranged(name, repository)
    assert servable.files == repository.files
    assert not servable.rewritten


def test_recipes_know_every_format():
    assert get_args(Format) == tuple(REGISTRY)


def test_a_single_model_endpoint_is_told_what_to_load(make_repository):
    repository = make_repository("outer", NESTED, load_models=["outer", "called", "too"])
    assert arranged("sagemaker", repository).environment == {
        "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "outer",
        "SAGEMAKER_TRITON_LOG_VERBOSE": "false",
        "SAGEMAKER_TRITON_ADDITIONAL_ARGS": "--load-model=called --load-model=too",
    }
    assert arranged("triton", repository).environment == {}


def test_a_single_model_is_flat(make_repository):
    servable = arranged("sagemaker-mme", make_repository("one", ONE))
    assert servable.files.keys() == {"config.pbtxt", "1/model.py"}
    assert servable.models == ()
    assert servable.environment["SAGEMAKER_TRITON_PING_MODE"] == "live"


def test_of_nested_ensembles_the_front_end_sees_the_outermost(make_repository, tmp_path):
    repository = make_repository("outer", NESTED)
    servable = arranged("sagemaker-mme", repository)
    assert list(servable.rewritten) == ["inner/config.pbtxt"]
    assert layouts.seen_ensembles(repository.files, {}) == ("inner", "outer")  # which would be left to chance
    assert layouts.seen_ensembles(servable.tree(tmp_path / "written"), {}) == ("outer",)


@pytest.mark.parametrize(
    ("host", "texts", "name"),
    [
        ("sagemaker-mme", NESTED, "outer"),
        ("sagemaker-mme", ONE, "one"),
        ("sagemaker", NESTED, "outer"),
        ("sagemaker", ONE, "one"),
    ],
)
def test_lint_takes_each_for_its_host(host, texts, name, make_repository, tmp_path):
    servable = arranged(host, make_repository(name, texts))
    path = tmp_path / f"{name}.tar.gz"
    archives.pack(servable.tree(tmp_path / "written"), path)
    options = Options(host=host, environment=tuple(servable.environment.items()), explicit=True)
    assert [found.text for found in lint(path, options).errors] == []


def test_lint_refuses_what_was_not_arranged(make_repository, tmp_path):
    path = tmp_path / "outer.tar.gz"
    archives.pack(make_repository("outer", NESTED).files, path)
    found = lint(path, Options(host="sagemaker-mme", explicit=True))
    assert "A6" in {one.rule for one in found.errors}


def test_models_that_a_step_calls_are_refused_where_nobody_loads_them(make_repository):
    repository = make_repository("outer", NESTED, load_models=["outer", "called"])
    with pytest.raises(UserError, match="calls called by name"):
        REGISTRY["sagemaker-mme"].arrange(repository)


@pytest.mark.parametrize(
    "texts", [NESTED | {"config.pbtxt": "", "1/x": ""}, NESTED | {"outer/config.pbtxt": "platform : 'ensemble'"}]
)
def test_what_the_front_end_would_take_for_another_model_is_a_bug(texts, make_repository):
    with pytest.raises(InternalError):
        REGISTRY["sagemaker-mme"].arrange(make_repository("outer", texts))


@pytest.mark.parametrize("path", ["one/../x", "one//x", "one/" + "x" * 256, "one/1"])
def test_keys_that_s3_does_not_take_are_a_bug(path, make_repository):
    repository = make_repository("one", ONE)
    files = repository.files | {path: repository.files["one/config.pbtxt"]}
    with pytest.raises(InternalError):
        REGISTRY["s3-prefix"].arrange(Repository("one", files, {}))
