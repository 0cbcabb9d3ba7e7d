import numpy as np
import pytest

from builder.errors import InternalError
from builder.parity.compare import CRITERIA, compare

RANDOM = np.random.default_rng(1)
EMBEDDINGS = {"EMBEDDING": RANDOM.normal(size=(9, 5)).astype(np.float32)}
LOGITS = RANDOM.normal(size=(9, 4)).astype(np.float32) * 3


def classifier(logits, activation):
    logits = np.asarray(logits, np.float32)
    if activation == "sigmoid":
        return {"LOGITS": logits, "PROBABILITIES": 1 / (1 + np.exp(-logits))}
    return {"LOGITS": logits, "PROBABILITIES": np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)}


def changed(answers, sample, **outputs):
    copy = {name: values.copy() for name, values in answers.items()}
    for name, row in outputs.items():
        copy[name][sample] = row
    return copy


def within(metric, comparison, **tolerances):
    return {one.figure: one.holds(comparison.figures, tolerances) for one in CRITERIA[metric]}


def test_equal_embeddings_agree():
    found = compare("cosine", EMBEDDINGS, EMBEDDINGS)
    assert found.failures == ()
    assert found.figures["cosine"] == pytest.approx(1, abs=1e-12)
    assert within("cosine", found, cosine=0.999999) == {"cosine": True, "length_difference": True}


def test_the_cosine_is_that_of_the_worst_sample():
    wrong = EMBEDDINGS["EMBEDDING"][4] + np.array([0.5, 0, 0, 0, 0], np.float32)
    found = compare("cosine", EMBEDDINGS, changed(EMBEDDINGS, 4, EMBEDDING=wrong))
    right = EMBEDDINGS["EMBEDDING"][4]
    expected = right @ wrong / np.linalg.norm(right) / np.linalg.norm(wrong)
    assert found.figures["cosine"] == pytest.approx(float(expected), abs=1e-6)
    assert found.worst["cosine"].sample == 4
    assert found.figures["cosine"] < found.figures["cosine_mean"] < 1
    assert not within("cosine", found, cosine=0.999999)["cosine"]


def test_a_forgotten_normalisation_is_seen_though_no_cosine_changes():
    found = compare("cosine", EMBEDDINGS, {"EMBEDDING": EMBEDDINGS["EMBEDDING"] * 2})
    assert within("cosine", found, cosine=0.999999) == {"cosine": True, "length_difference": False}


@pytest.mark.parametrize(("expected", "actual", "cosine"), [(0, 0, 1), (0, 1, 0), (1, 0, 0)])
def test_a_vector_of_length_0_agrees_only_with_another(expected, actual, cosine):
    found = compare("cosine", *({"EMBEDDING": np.full((2, 3), value, np.float32)} for value in (expected, actual)))
    assert found.figures["cosine"] == cosine


@pytest.mark.parametrize(("metric", "activation"), [("single-label", "softmax"), ("multi-label", "sigmoid")])
def test_equal_probabilities_agree(metric, activation):
    answers = classifier(LOGITS, activation)
    found = compare(metric, answers, answers)
    assert found.figures["label_agreement"] == 1
    assert all(within(metric, found, label_agreement=1.0, max_probability_difference=1e-4).values())


def test_another_label_is_a_share_of_the_samples():
    expected = classifier(LOGITS, "softmax")
    other = np.roll(LOGITS[3], 1)
    found = compare(
        "single-label", expected, changed(expected, 3, PROBABILITIES=classifier([other], "softmax")["PROBABILITIES"][0])
    )
    assert found.figures["label_agreement"] == pytest.approx(8 / 9)
    assert found.worst["label_agreement"].sample == 3
    assert found.worst["max_probability_difference"].sample == 3


def test_each_decision_of_a_multi_label_classifier_counts():
    logits = np.array([[2, -2, 2], [2, 2, -2]], np.float32)
    expected = classifier(logits, "sigmoid")
    found = compare("multi-label", expected, classifier(logits * np.array([1, 1, -1]), "sigmoid"))
    assert found.figures["label_agreement"] == pytest.approx(4 / 6)


def test_logits_that_softmax_hides_are_seen():
    expected = classifier(LOGITS, "softmax")
    found = compare("single-label", expected, {**expected, "LOGITS": LOGITS + 5})
    holds = within("single-label", found, label_agreement=1.0, max_probability_difference=1e-4)
    assert holds == {"label_agreement": True, "max_probability_difference": True, "max_logit_difference": False}


def test_a_regression_is_compared_on_its_own_scale():
    expected = {"LOGITS": np.array([[1000.0], [-5]], np.float32)}
    found = compare("regression", expected, {"LOGITS": np.array([[1000.0], [-4]], np.float32)})
    assert found.figures["max_difference"] == pytest.approx(1e-3)
    assert found.worst["max_difference"].sample == 1
    assert within("regression", found, max_difference=1e-4) == {"max_difference": False}


TOKENS = {
    "LOGITS": np.arange(24, dtype=np.float32).reshape(2, 4, 3) * np.array([[[1]] * 4, [[1]] * 2 + [[0]] * 2]),
    "lengths": np.array([4, 2]),
}


@pytest.mark.parametrize("width", [4, 6])
def test_only_a_samples_own_tokens_are_compared(width):
    answer = np.full((2, width, 3), 99.0, np.float32)  # at padding a model may answer anything
    answer[0, :4], answer[1, :2] = TOKENS["LOGITS"][0], TOKENS["LOGITS"][1, :2]
    answer[1, 3:] = np.nan
    found = compare("logits", TOKENS, {"LOGITS": answer})
    assert (found.failures, found.figures) == ((), {"max_difference": 0.0})
    answer[1, 1, 2] += 1.7
    wrong = compare("logits", TOKENS, {"LOGITS": answer})
    assert wrong.figures["max_difference"] == pytest.approx(0.1)
    assert wrong.worst["max_difference"].sample == 1
    assert within("logits", wrong, max_difference=1e-4) == {"max_difference": False}


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (TOKENS["LOGITS"][:, :3], "not-finite"),  # the first sample has four tokens
        (TOKENS["LOGITS"][..., :2], "wrong-shape"),
        (TOKENS["LOGITS"][:1], "wrong-shape"),
        (TOKENS["LOGITS"].astype(int), "wrong-type"),
        (None, "missing-output"),
    ],
)
def test_answers_to_other_tokens_are_a_failure(answer, name):
    (failure,) = compare("logits", TOKENS, {} if answer is None else {"LOGITS": answer}).failures
    assert failure.name == name


def test_all_outputs_count():
    expected = {"START_LOGITS": np.ones((2, 1), np.float32), "END_LOGITS": np.full((2, 1), 10, np.float32)}
    found = compare("logits", expected, {**expected, "END_LOGITS": np.array([[10], [9]], np.float32)})
    assert found.figures == {"max_difference": pytest.approx(0.1)}


@pytest.mark.parametrize(
    ("answers", "name", "what", "sample"),
    [
        (
            {"OTHER": np.zeros((9, 5), np.float32)},
            "missing-output",
            "EMBEDDING was not answered; answered: OTHER",
            None,
        ),
        ({"EMBEDDING": np.zeros((9, 4), np.float32)}, "wrong-shape", r"shape \[9, 4\], expected \[9, 5\]", None),
        (changed(EMBEDDINGS, 2, EMBEDDING=np.nan), "not-finite", "in 1 of 9 answers", 2),
        (changed(EMBEDDINGS, 5, EMBEDDING=-np.inf), "not-finite", "in 1 of 9 answers", 5),
        ({"EMBEDDING": EMBEDDINGS["EMBEDDING"].astype(object)}, "wrong-type", "object, not floating point", None),
    ],
)
def test_what_cannot_be_compared_is_a_failure_with_a_name(answers, name, what, sample):
    import re

    (failure,) = compare("cosine", EMBEDDINGS, answers).failures
    assert (failure.name, failure.sample) == (name, sample)
    assert re.search(what, failure.what)


def test_a_reference_that_holds_nan_is_our_own_mistake():
    with pytest.raises(InternalError, match="expected EMBEDDING"):
        compare("cosine", changed(EMBEDDINGS, 0, EMBEDDING=np.nan), EMBEDDINGS)
