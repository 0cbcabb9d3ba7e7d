"""What `serve` decides: the rules of docker/sagemaker/serve."""

from __future__ import annotations

import pytest

from builder.verify.contract import decide

NAME = "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"


@pytest.fixture
def make_tree(tmp_path):
    def make(*paths):
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text("")
        return tmp_path

    return make


def test_one_folder_is_the_model(make_tree):
    decision = decide(make_tree("bert/config.pbtxt", "bert/1/model.plan", "notes.txt"), {})
    assert decision.default_model == "bert"
    assert decision.arguments[0] == "--model-repository=/opt/ml/model/"
    assert decision.arguments[-1] == "--load-model=bert"
    assert {"--model-namespacing=true", "--log-verbose=true", "--allow-grpc=false"} <= set(decision.arguments)


def test_a_named_model_is_chosen_of_several(make_tree):
    tree = make_tree("a/config.pbtxt", "b/config.pbtxt")
    assert decide(tree, {NAME: "b"}).default_model == "b"


@pytest.mark.parametrize(
    ("paths", "variables", "says"),
    [
        (["config.pbtxt", "1/model.plan"], {}, "Incorrect directory structure"),
        (["config.pbtxt", "1/model.plan"], {NAME: "1"}, "Incorrect directory structure"),
        (["a/config.pbtxt", "b/config.pbtxt"], {}, "More than 1 model directory"),
        (["a/config.pbtxt", ".ipynb_checkpoints/x"], {}, "More than 1 model directory"),
        (["readme.txt"], {}, "No model found"),
        (["a/config.pbtxt"], {NAME: "x"}, "x does not exist"),
        (["a/config.pbtxt"], {"SAGEMAKER_TRITON_INFERENCE_TYPE": "stream"}, "allowed are infer"),
        (["a/config.pbtxt"], {"SAGEMAKER_MULTI_MODEL": "true"}, "no single-model endpoint"),
    ],
)
def test_serve_ends_with_one(make_tree, paths, variables, says):
    decision = decide(make_tree(*paths), variables)
    assert says in decision.refusal
    assert not decision.arguments


@pytest.mark.parametrize("value", ["True", "1", ""])
def test_multi_model_is_true_in_lower_case_only(make_tree, value):
    assert not decide(make_tree("a/config.pbtxt"), {"SAGEMAKER_MULTI_MODEL": value}).refusal


def test_links_are_no_folders_and_a_version_is_taken_for_a_model(make_tree):
    tree = make_tree("1/model.plan")
    (tree / "linked").symlink_to(tree / "1")
    assert decide(tree, {}).default_model == "1"


def test_variables_become_arguments_word_by_word(make_tree):
    decision = decide(
        make_tree("a/config.pbtxt"),
        {
            "SAGEMAKER_TRITON_ADDITIONAL_ARGS": "--load-model=b  --cache-config=local,size=1048576",
            "SAGEMAKER_TRITON_LOG_INFO": "false --load-model=c",  # what a notebook of AWS abuses
            "SAGEMAKER_TRITON_DISABLE_MODEL_NAMESPACING": "true",  # which keeps it on
            "SAGEMAKER_TRITON_MODEL_LOAD_GPU_LIMIT": "0.8",
            "SAGEMAKER_BIND_TO_PORT": "8443",
        },
        gpus=2,
    )
    assert {
        "--load-model=b",
        "--cache-config=local,size=1048576",
        "--log-info=false",
        "--load-model=c",
        "--model-namespacing=true",
        "--sagemaker-port=8443",
        "0:0.8",
        "1:0.8",
    } <= set(decision.arguments)
