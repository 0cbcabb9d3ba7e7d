"""What spans several keys: each refusal names both places, and the same recipe within bounds is taken."""

from __future__ import annotations

import pytest

from tests.recipe.conftest import MINIMAL

CASES = {
    "batch min above opt": (
        "shapes: {batch: {min: 9, opt: 8}}",
        "5:23: shapes.batch.min: 9 is more than shapes.batch.opt (recipe.yaml:5:31), which is 8",
        "shapes: {batch: {min: 8, opt: 8}}",
    ),
    "batch opt above max": (
        "shapes: {batch: {opt: 9, max: 8}}",
        "5:23: shapes.batch.opt: 9 is more than shapes.batch.max (recipe.yaml:5:31), which is 8",
        "shapes: {batch: {opt: 8, max: 8}}",
    ),
    "batch min above the default of max": (
        "shapes: {batch: {min: 33}}",
        "5:23: shapes.batch.min: 33 is more than shapes.batch.max (the default), which is 32",
        "shapes: {batch: {min: 32}}",
    ),
    "sequence min above max": (
        "shapes: {sequence: {min: 9, max: 8}}",
        "5:26: shapes.sequence.min: 9 is more than shapes.sequence.max (recipe.yaml:5:34), which is 8",
        "shapes: {sequence: {min: 8, max: 8}}",
    ),
    "serving more than the shapes": (
        "serving: {max_batch_size: 64}\nshapes: {batch: {max: 32}}",
        "5:27: serving.max_batch_size: 64 is more than shapes.batch.max (recipe.yaml:6:23), which is 32",
        "serving: {max_batch_size: 32}\nshapes: {batch: {max: 32}}",
    ),
    "serving more than the default of the shapes": (
        "serving: {max_batch_size: 33}",
        "5:27: serving.max_batch_size: 33 is more than shapes.batch.max (the default), which is 32",
        "serving: {max_batch_size: 32}",
    ),
    "preferred more than the largest": (
        "serving: {max_batch_size: 8, dynamic_batching: {preferred_batch_size: [4, 16]}}",
        (
            "5:75: serving.dynamic_batching.preferred_batch_size.1: 16 is more than serving.max_batch_size "
            "(recipe.yaml:5:27), which is 8"
        ),
        "serving: {max_batch_size: 16, dynamic_batching: {preferred_batch_size: [4, 16]}}",
    ),
    "preferred more than the default": (
        "serving: {dynamic_batching: {preferred_batch_size: [64]}}",
        (
            "5:53: serving.dynamic_batching.preferred_batch_size.0: 64 is more than shapes.batch.max (the default), "
            "which is 32"
        ),
        "serving: {dynamic_batching: {preferred_batch_size: [32]}}",
    ),
    "buckets end elsewhere": (
        "inputs: {max_length: 128, buckets: [16, 64]}",
        "5:41: inputs.buckets.1: the last bucket must be inputs.max_length (recipe.yaml:5:22), which is 128; got 64",
        "inputs: {max_length: 128, buckets: [16, 128]}",
    ),
    "buckets without use": (
        "inputs: {padding: longest, buckets: [16]}",
        "5:37: inputs.buckets: of no use with inputs.padding (recipe.yaml:5:19), which is 'longest'",
        "inputs: {padding: buckets, buckets: [16]}",
    ),
    "sequences end elsewhere": (
        "inputs: {max_length: 128}\nshapes: {sequence: {max: 64}}",
        "6:26: shapes.sequence.max: must be inputs.max_length (recipe.yaml:5:22), which is 128; got 64",
        "inputs: {max_length: 128}\nshapes: {sequence: {max: 128}}",
    ),
    "pairs for a task of one text": (
        "inputs: {text_pair: true}",
        (
            "5:21: inputs.text_pair: task (recipe.yaml:4:7) is sentence-embedding, which takes one text; "
            "pairs: text-classification, question-answering, text-ranking"
        ),
        "inputs: {text_pair: false}",
    ),
    "a tolerance of another task": (
        "verify: {parity: {max: 1}}",
        "5:19: verify.parity.max: unknown key for task (recipe.yaml:4:7) sentence-embedding; allowed: cosine",
        "verify: {parity: {cosine: 1}}",
    ),
}


@pytest.mark.parametrize(("wrong", "line", "right"), CASES.values(), ids=CASES.keys())
def test_both_places_are_named_and_the_bound_itself_is_allowed(bad, good, wrong, line, right):
    assert bad(wrong + "\n") == [f"recipe.yaml:{line}"]
    assert good(right + "\n")


@pytest.mark.parametrize(
    ("task", "lines", "problem"),
    [
        (
            "text-ranking",
            "inputs: {text_pair: false}",
            "5:21: inputs.text_pair: TASK is text-ranking, which takes pairs",
        ),
        ("image-classification", "inputs: {max_length: 9}", "5:1: inputs: of no use with TASK {}, which takes images"),
        (
            "image-classification",
            "shapes: {sequence: {max: 9}}",
            "5:10: shapes.sequence: of no use with TASK {}, which takes images",
        ),
        (
            "question-answering",
            "verify: {parity: {cosine: 1}}",
            "5:19: verify.parity.cosine: unknown key for TASK {}; allowed: max_difference",
        ),
    ],
)
def test_what_a_task_leaves_no_choice_in(bad, task, lines, problem):
    line = problem.replace("TASK", "task (recipe.yaml:4:7)").replace("{}", task)
    assert bad(lines + "\n", base=MINIMAL.replace("sentence-embedding", task)) == [f"recipe.yaml:{line}"]


def test_tasks_of_pairs_take_pairs_without_being_told(good):
    for task, pairs in (("question-answering", True), ("text-classification", False)):
        assert good(base=MINIMAL.replace("sentence-embedding", task)).inputs.text_pair is pairs
    base = MINIMAL.replace("sentence-embedding", "text-ranking")
    assert good("inputs: {max_length: 9}\n", base=base).inputs.model_dump()["text_pair"] is True


@pytest.mark.parametrize(
    ("task", "made_of", "problem"),
    [
        ("token-classification", "tokenizer: t", None),
        ("image-classification", "processor: {size: {height: 8}}", None),
        ("image-classification", "seed: 1", "architecture.processor: missing; it has no default"),
        ("token-classification", "seed: 1", "architecture.tokenizer: missing; it has no default"),
        ("image-classification", "tokenizer: t", "architecture.tokenizer: of no use with task"),
        ("text-ranking", "processor: p.json", "architecture.processor: of no use with task"),
    ],
)
def test_random_models_are_made_of_what_their_task_takes(bad, good, task, made_of, problem):
    base = MINIMAL.replace("sentence-embedding", task)
    base = base.replace("{path: model}", f"{{architecture: {{config: {{model_type: x}}, {made_of}}}}}")
    if problem is None:
        assert good(base=base)
        return
    (line,) = bad(base=base)
    assert f"source.{problem}" in line


def test_tolerances_of_classifiers(bad, good):
    base = MINIMAL.replace("sentence-embedding", "text-classification")
    parity = {"label_agreement": 0.99, "max_probability_difference": 1e-3, "max_difference": 2}
    lines = "".join(f"    {key}: {value}\n" for key, value in parity.items())
    assert good(f"verify:\n  parity:\n{lines}", base=base).verify.parity == parity
    assert bad("verify: {parity: {cosine: 1}}\n", base=base) == [
        (
            "recipe.yaml:5:19: verify.parity.cosine: unknown key for task (recipe.yaml:4:7) text-classification; "
            "allowed: label_agreement, max_probability_difference, max_difference"
        )
    ]
    assert bad("verify: {parity: {max_difference: -1}}\n", base=base) == [
        "recipe.yaml:5:35: verify.parity.max_difference: must be at least 0, got the number -1"
    ]


def test_a_value_that_is_wrong_by_itself_is_not_compared(bad):
    assert bad("serving: {max_batch_size: -1}\nshapes: {batch: {max: x}}\n") == [
        "recipe.yaml:5:27: serving.max_batch_size: must be at least 0, got the number -1",
        "recipe.yaml:6:23: shapes.batch.max: must be a whole number, got the string 'x'",
    ]
    assert bad("verify: {parity: [1]}\nserving: 3\ninputs: x\n", base=MINIMAL) == [
        "recipe.yaml:5:18: verify.parity: must be a mapping, got a list",
        "recipe.yaml:6:10: serving: must be a mapping, got the number 3",
        "recipe.yaml:7:9: inputs: must be a mapping, got the string 'x'",
    ]
