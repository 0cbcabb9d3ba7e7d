"""Every family, both tasks: exported, and equal to transformers at shapes that were not traced."""

import numpy as np
import pytest

from tests.models import FAMILIES, MAX_LENGTH, TEXTS

_TASKS = {"sentence-embedding": ("EMBEDDING",), "text-classification": ("LOGITS", "PROBABILITIES")}


@pytest.mark.parametrize("task", _TASKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_transformers_at_untraced_shapes(exported, family, task):
    built = exported(family, task)
    limit = 32 if task == "sentence-embedding" else MAX_LENGTH

    assert [(check["batch"], check["sequence"]) for check in built.model.record["checks"]] == [
        (1, 2),
        (5, 2),
        (1, limit),
        (3, (2 + limit + 1) // 2),
        (5, limit),
    ]
    assert max(value for check in built.model.record["checks"] for value in check["difference"].values()) < 2e-5
    assert [tensor.name for tensor in built.model.outputs] == [*_TASKS[task]]
    assert all(tensor.dtype == "INT64" and tensor.shape == (-1, -1) for tensor in built.model.inputs)


@pytest.mark.parametrize("task", _TASKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_all_weights_stay_in_the_checkpoint(exported, family, task):
    record = exported(family, task).model.record

    assert record["embedded"] == {}
    assert record["bound"] > 15


@pytest.mark.parametrize("family", FAMILIES)
def test_every_label_occurs(exported, family):
    logits = exported(family, "text-classification").expected["LOGITS"]

    assert logits.shape == (len(TEXTS), 3)
    assert set(logits.argmax(axis=1)) == {0, 1, 2}


@pytest.mark.parametrize(
    ("family", "inputs"),
    [
        ("bert", ("input_ids", "attention_mask", "token_type_ids")),
        ("distilbert", ("input_ids", "attention_mask")),
        ("deberta-v2", ("input_ids", "attention_mask")),
    ],
)
def test_takes_only_the_inputs_that_the_model_uses(exported, family, inputs):
    built = exported(family, "sentence-embedding")

    assert built.tokenizer.input_names == inputs
    assert tuple(tensor.name for tensor in built.model.inputs) == inputs


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "modernbert", "t5"])
def test_the_reference_is_what_sentence_transformers_answers(exported, family):
    from sentence_transformers import SentenceTransformer

    built = exported(family, "sentence-embedding")
    model = SentenceTransformer(str(built.folder), device="cpu", local_files_only=True)

    answered = model.encode(list(TEXTS), batch_size=4, show_progress_bar=False)

    assert np.abs(answered - built.expected["EMBEDDING"]).max() < 1e-5
    # Controls: what a wrong build answers is far from it.
    assert np.abs(answered - built.expected["control.wrong_pooling.EMBEDDING"]).max() > 0.01
    assert np.abs(answered - built.expected["control.truncated.EMBEDDING"]).max() > 0.01


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "modernbert", "bart"])
def test_the_reference_is_what_the_pipeline_answers(exported, family):
    from transformers import pipeline

    built = exported(family, "text-classification")
    ask = pipeline("text-classification", model=str(built.folder), top_k=None, device="cpu")

    answers = ask(list(TEXTS), truncation=True, max_length=MAX_LENGTH)

    answered = [
        [{item["label"]: item["score"] for item in row}[label] for label in built.reference.labels] for row in answers
    ]
    assert built.reference.metric == "single-label"
    assert np.abs(np.asarray(answered) - built.expected["PROBABILITIES"]).max() < 1e-5
