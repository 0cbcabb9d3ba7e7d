"""Answers that perf_analyzer recorded, held against an archive's expected ones: what is right passes, nothing else."""

import types

import numpy as np
import pytest

from builder.artifacts import LENGTHS, Sample
from builder.sweep.answers import Checker
from builder.sweep.requests import Request
from builder.tools.perf_requests import Answer

OUTPUTS = {
    "cosine": ("EMBEDDING", [4]),
    "regression": ("LOGITS", [1]),
    "logits": ("LOGITS", [-1, 2]),
    "pipeline": ("LABEL", [2]),
}
TOLERANCES = {"cosine": 0.9999, "max_difference": 0.001, "text_agreement": 1.0}


def checker(metric, answers, requests=3):
    """Of a subject whose samples are ``a``, ``b``, ``c``."""
    name, dims = OUTPUTS[metric]
    kind = "TYPE_STRING" if metric == "pipeline" else "TYPE_FP32"
    dtypes, texts = {"TEXT": "BYTES"}, [{"name": "TEXT", "data_type": "TYPE_STRING", "dims": [1]}]
    subject = types.SimpleNamespace(
        name="model",
        configs={"model": {"input": texts, "output": [{"name": name, "data_type": kind, "dims": dims}]}},
        requests=tuple(Request({"TEXT": letter}, dtypes, index) for index, letter in enumerate("abc"[:requests])),
        expected=types.SimpleNamespace(answers=answers, samples=tuple(map(Sample, "abc"))),
        facts=types.SimpleNamespace(metric=metric),
        tolerances=TOLERANCES,
    )
    return Checker(subject)


def answer(text, name, value):
    return Answer({"TEXT": text}, {name: value})


@pytest.fixture
def vectors():
    values = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    return {"EMBEDDING": values / np.linalg.norm(values, axis=1, keepdims=True)}


def test_a_right_answer_passes_and_that_of_another_request_does_not(vectors):
    held, (a, b, c) = checker("cosine", vectors), vectors["EMBEDDING"].tolist()
    found = held.check([answer("a", "EMBEDDING", a), answer("b", "EMBEDDING", b), answer("c", "EMBEDDING", c)], 1)
    assert (found.checked, found.wrong) == (3, 0)
    found = held.check([answer("a", "EMBEDDING", b), answer("b", "EMBEDDING", b)], 1)
    assert (found.checked, found.wrong) == (2, 1)
    assert "cosine" in found.reason


def test_all_items_of_a_batch_are_checked(vectors):
    held, (a, b, c) = checker("cosine", vectors), vectors["EMBEDDING"].tolist()
    assert held.check([answer("b", "EMBEDDING", [*b, *c, *a])], 3).wrong == 0
    assert held.check([answer("b", "EMBEDDING", [*b, *a, *c])], 3).wrong == 2


def test_what_nobody_asked_is_left_out_and_what_cannot_be_read_is_wrong(vectors):
    held = checker("cosine", vectors)
    assert held.check([answer("d", "EMBEDDING", [1, 0, 0, 0])], 1).checked == 0
    assert held.check([None], 1).wrong == 1


def test_a_small_value_is_held_against_the_scale_of_all_answers():
    held = checker("regression", {"LOGITS": np.array([[0.001], [10.0], [-3.0]], np.float32)})
    assert held.check([answer("a", "LOGITS", 0.002)], 1).wrong == 0  # 0.001 of 10
    assert held.check([answer("a", "LOGITS", 0.1)], 1).wrong == 1


def test_of_an_axis_of_tokens_padding_does_not_count():
    expected = np.zeros((3, 4, 2), np.float32)
    expected[0, :2] = [[1, 2], [3, 4]]
    held = checker("logits", {"LOGITS": expected, LENGTHS: np.array([2, 4, 1])})
    assert held.check([answer("a", "LOGITS", [1, 2, 3, 4, 9, 9])], 1).wrong == 0
    assert held.check([answer("a", "LOGITS", [1, 2, 3, 5, 9, 9])], 1).wrong == 1
    assert held.check([answer("a", "LOGITS", [1, 2])], 1).wrong == 1  # a token is missing


def test_texts_are_told_apart_though_they_are_printed_with_their_lengths():
    texts = np.array([[b"one", b"two"], [b"", b"x\xff"], [b"three", b"four"]], dtype=object)
    held = checker("pipeline", {"LABEL": texts})
    # The second text's length stands before it, the first one's is lost.
    assert held.check([answer("a", "LABEL", "one\x03\0\0\0two")], 1).wrong == 0
    assert held.check([answer("b", "LABEL", "\x02\0\0\0x\udcff")], 1).wrong == 0
    assert held.check([answer("a", "LABEL", "one\x03\0\0\0too")], 1).wrong == 1
    assert held.check([answer("a", "LABEL", "one")], 1).wrong == 1
    assert held.check([answer("a", "LABEL", "one\x03\0\0\0two\x03\0\0\0two")], 1).wrong == 1
    both = "one\x03\0\0\0two\0\0\0\0\x02\0\0\0x\udcff"
    assert held.check([answer("a", "LABEL", both)], 2).wrong == 0
    assert held.check([answer("a", "LABEL", both.replace("two", "twp"))], 2).wrong == 1


def test_what_is_not_answered_is_wrong_and_half_precision_is_not_told(vectors):
    held = checker("cosine", vectors)
    assert held.check([Answer({"TEXT": "a"}, {})], 1).wrong == 1
    assert held.check([Answer({"TEXT": "a"}, {"EMBEDDING": [1.0]})], 1).wrong == 1
    assert held.reads_records(1)
    held.subject.configs["model"]["input"] = [{"name": "X", "data_type": "TYPE_FP16", "dims": [1]}]
    assert not held.reads_records(1)


def test_of_texts_in_a_batch_the_record_does_not_tell_how_many_are_whose():
    texts = np.array([[b"a"], [b"b"], [b"c"]], dtype=object)
    counted = checker("pipeline", {"LABEL": texts})
    assert (counted.reads_records(1), counted.reads_records(2)) == (True, True)
    config = counted.subject.configs["model"]
    config["output"] = [{"name": "LABEL", "data_type": "TYPE_STRING", "dims": [-1]}]
    uncounted = Checker(counted.subject)
    assert (uncounted.reads_records(1), uncounted.reads_records(2)) == (True, False)
    assert uncounted.check([answer("a", "LABEL", "a")], 1).checked == 1
    assert uncounted.check([answer("a", "LABEL", "a\x01\0\0\0b")], 2).checked == 0  # why a client of our own asks them


def test_without_a_reference_answers_are_held_against_those_alone(vectors):
    held = checker("cosine", vectors)
    held.subject.expected = None
    held.learn(lambda request: {"EMBEDDING": np.float32([1, 2, 3, ord(str(request.values["TEXT"]))])})
    assert held.check([answer("a", "EMBEDDING", [1.01, 2, 3, 97])], 1).wrong == 0
    found = held.check([answer("a", "EMBEDDING", [1, 2, 3, 98])], 1)
    assert found.wrong == 1
    assert "not what the server answers alone" in found.reason


CLASSES = 16


def classifier(limit):
    """Of 16 samples whose labels are all but a tie, but for the last one's."""
    logits = np.tile(np.array([0.02, -0.02], np.float32), (CLASSES, 1))
    logits[-1] = [5, -5]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    outputs = [{"name": name, "data_type": "TYPE_FP32", "dims": [2]} for name in ("LOGITS", "PROBABILITIES")]
    texts = [{"name": "TEXT", "data_type": "TYPE_STRING", "dims": [1]}]
    letters = [chr(ord("a") + number) for number in range(CLASSES)]
    answers = {"LOGITS": logits, "PROBABILITIES": probabilities}
    subject = types.SimpleNamespace(
        name="model",
        configs={"model": {"input": texts, "output": outputs}},
        requests=tuple(Request({"TEXT": one}, {"TEXT": "BYTES"}, number) for number, one in enumerate(letters)),
        expected=types.SimpleNamespace(answers=answers, samples=tuple(map(Sample, letters))),
        facts=types.SimpleNamespace(metric="single-label"),
        tolerances={"label_agreement": limit, "max_probability_difference": 0.05},
    )
    return Checker(subject)


def classified(held, flipped):
    """The answers of a run in which some requests get the other label, whenever they are asked."""
    expected = held.subject.expected.answers

    def answered(number):
        way = -1 if number in flipped else 1
        return {name: values[number][::way].tolist() for name, values in expected.items()}

    return [Answer(dict(held.subject.requests[number].values), answered(number)) for number in [*range(CLASSES)] * 2]


@pytest.mark.parametrize(
    ("limit", "flipped", "wrong"), [(0.97, [], 0), (0.97, [3], 0), (0.97, [3, 4], 4), (0.8, [3, 4], 0), (1.0, [3], 2)]
)
def test_labels_are_judged_over_all_answers_of_a_point(limit, flipped, wrong):
    held = classifier(limit)
    answers = classified(held, flipped)
    found = held.check(answers[:CLASSES], 1) + held.check(answers[CLASSES:], 1)  # two rounds
    assert (found.checked, found.wrong, found.differing) == (2 * CLASSES, wrong, 2 * len(flipped))
    assert ("label_agreement is 0." in found.reason) == bool(wrong)


def test_an_answer_that_is_far_off_is_wrong_whatever_the_others_are():
    held = classifier(0.5)
    found = held.check(classified(held, [CLASSES - 1]), 1)  # its label is no tie
    assert found.wrong == 2
    assert "max_probability_difference" in found.reason


def doubler(rows, dtypes):
    """Of a repository whose model answers twice X; its requests are these rows."""
    inputs = [{"name": name, "data_type": f"TYPE_{dtype}", "dims": [1]} for name, dtype in dtypes.items()]
    subject = types.SimpleNamespace(
        name="model",
        configs={"model": {"input": inputs, "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [1]}]}},
        requests=tuple(Request(row, dtypes) for row in rows),
        expected=None,
    )
    held = Checker(subject)
    held.learn(lambda request: {"Y": np.float32([2 * sum(value[0] for value in request.values.values())])})
    return held


def test_requests_with_the_same_values_are_followed_by_different_ones():
    held = doubler([{"X": [value]} for value in (5, 7, 5, 9)], {"X": "INT32"})
    for values, wrong in (([10, 14], 0), ([10, 18], 0), ([10, 10], 1), ([14, 10], 2)):
        found = held.check([Answer({"X": 5}, {"Y": values})], 2)
        assert (found.checked, found.wrong) == (2, wrong)


def test_requests_that_differ_in_half_precision_are_not_told_apart_by_the_record():
    held = doubler([{"X": [5], "H": [half]} for half in (1.0, 2.0)], {"X": "INT32", "H": "FP16"})
    for value, wrong in ((12, 0), (14, 0), (16, 1)):
        assert held.check([Answer({"X": 5, "H": None}, {"Y": value})], 1).wrong == wrong
