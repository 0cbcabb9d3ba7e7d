from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.artifacts import Sample
from builder.parity.compare import compare
from builder.verify import ask
from builder.verify.measure import excerpt


@given(st.integers(1, 200), st.integers(1, 40))
def test_every_sample_is_in_one_batch_and_no_batch_is_too_large(samples, max_batch_size):
    batches = ask.compose(samples, max_batch_size)
    assert sorted(index for batch in batches for index in batch) == list(range(samples))
    assert max(map(len, batches)) == min(samples, max_batch_size)
    assert batches == ask.compose(samples, max_batch_size)


def test_batches_are_of_different_sizes_and_not_in_the_order_of_the_samples():
    batches = ask.compose(97, 8)
    assert {1, 8} < {len(batch) for batch in batches}
    assert [index for batch in batches for index in batch] != list(range(97))


@pytest.mark.triton
@pytest.mark.parametrize("way", ["alone", "batched", "concurrent"])
def test_answers_come_in_the_order_of_the_samples(asker, tiny, samples, way):
    asked = {
        "alone": lambda: ask.alone(asker),
        "batched": lambda: ask.batched(asker, 8),
        "concurrent": lambda: ask.concurrent(asker)[0],
    }[way]()
    assert asked.failures == ()
    found = compare("cosine", tiny.answer(samples), asked.answers)
    assert found.figures["cosine"] > 0.9999999
    # The negative control: one answer in another's place is noticed.
    wrong = np.roll(asked.answers["EMBEDDING"], 1, axis=0)
    assert compare("cosine", tiny.answer(samples), {"EMBEDDING": wrong}).figures["cosine"] < 0.9


@pytest.mark.triton
def test_text_that_is_not_utf8_is_refused_and_nothing_else(asker):
    asked, invalid = ask.concurrent(asker)
    assert asked.failures == ()
    assert len(invalid) == 3
    assert all("TEXT is not UTF-8" in error for error in invalid)


@pytest.mark.triton
def test_a_refused_request_ends_the_way_and_names_the_sample(asker):
    from dataclasses import replace

    one_input_too_many = replace(asker, text_pair=True)
    (failure,) = ask.alone(one_input_too_many).failures
    assert (failure.name, failure.sample) == ("request-refused", 0)
    assert "TEXT_PAIR" in failure.what


@pytest.mark.triton
def test_a_request_that_is_too_large_is_refused(asker):
    (failure,) = ask.batched(asker, 9).failures
    assert failure.name == "request-refused"
    assert "batch-size" in failure.what


@pytest.mark.triton
def test_hard_texts_are_answered(ask_about, tiny):
    samples = tuple(Sample(text) for text in ("a", "🙂", "a\0b", "\u202eabc", "x" * 10_000))
    asked = ask.batched(ask_about(*samples), 8)
    assert compare("cosine", tiny.answer(samples), asked.answers).figures["cosine"] > 0.9999999


def test_images_are_asked_as_files(asker):
    samples = (Sample(image_base64="Y2F0"), Sample(image_base64="ZG9n"))
    ((name, column),) = replace(asker, samples=samples)._inputs([1, 0]).items()
    assert (name, column.tolist()) == ("IMAGE", [[b"dog"], [b"cat"]])
    assert excerpt(samples[0]) == "an image of 3 bytes"


def test_rows_of_another_number_than_asked_are_a_failure():
    answer = {"EMBEDDING": np.zeros((2, 3), np.float32)}
    (failure,) = ask._wrong_rows(answer, [4, 5, 6])
    assert (failure.name, failure.sample) == ("wrong-shape", 4)
    assert ask._wrong_rows(answer, [4, 5]) == []


def test_answers_of_different_widths_are_a_failure():
    answered = [{"EMBEDDING": np.zeros((1, width), np.float32)} for width in (3, 4)]
    (failure,) = ask._in_order([(0,), (1,)], answered).failures
    assert failure.name == "wrong-shape"
    assert "[[3], [4]]" in failure.what
