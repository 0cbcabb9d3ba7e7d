import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.parity.compare import decisions
from builder.verify.controls import Control, derangement, hold_against, make_controls

LABELLED = {
    "LOGITS": np.array([[2, 0], [3, 0], [0, 2], [0, 1]], np.float32),
    "PROBABILITIES": np.array([[0.9, 0.1], [0.95, 0.05], [0.1, 0.9], [0.3, 0.7]], np.float32),
}


@given(st.lists(st.integers(0, 5), min_size=2, max_size=30))
def test_no_entry_keeps_its_group_where_that_is_possible(groups):
    groups = np.array(groups)
    order = derangement(groups)
    assert sorted(order) == list(range(len(groups)))
    largest = int(np.bincount(groups).max())
    kept = int((groups[order] == groups).sum())
    assert kept == max(0, 2 * largest - len(groups))


def test_shuffled_gives_every_text_another_label():
    (shuffled,) = make_controls("single-label", LABELLED, {})
    before, after = decisions("single-label", LABELLED), decisions("single-label", shuffled.expected)
    assert (before != after).all()
    assert sorted(after.ravel()) == sorted(before.ravel())


def test_shuffled_keeps_the_outputs_of_a_sample_together():
    (shuffled,) = make_controls("single-label", LABELLED, {})
    pairs = {tuple(row) for row in np.hstack(list(LABELLED.values())).tolist()}
    assert {tuple(row) for row in np.hstack(list(shuffled.expected.values())).tolist()} == pairs


def test_controls_have_no_more_tokens_than_were_asked():
    expected = {"LOGITS": np.array([[[1.0]] * 4, [[2.0]] * 2 + [[0.0]] * 2], np.float32), "lengths": np.array([4, 2])}
    longer = {"LOGITS": np.ones((2, 5, 1), np.float32) * 7, "lengths": np.array([3, 5])}
    shuffled, other = make_controls("logits", expected, {"longer": longer})
    assert shuffled.expected["lengths"].tolist() == [2, 2]
    assert shuffled.expected["LOGITS"][:, 0, 0].tolist() == [2, 1]
    assert other.expected["lengths"].tolist() == [3, 2]
    for control in (shuffled, other):
        seen = hold_against("logits", control, {"alone": expected})
        assert seen["figures"]["max_difference"] > 0.1


def test_one_label_everywhere_is_shuffled_too():
    same = {name: values[:2] for name, values in LABELLED.items()}
    (shuffled,) = make_controls("single-label", same, {})
    assert (shuffled.expected["LOGITS"] == same["LOGITS"][::-1]).all()


def test_a_control_that_changes_no_answer_cannot_show_anything():
    wrong = {
        "truncated": {"LOGITS": LABELLED["LOGITS"] + np.float32(1e-8)},
        "other": {"LOGITS": LABELLED["LOGITS"] + 1},
    }
    controls = {control.name: control for control in make_controls("single-label", LABELLED, wrong)}
    assert controls["truncated"].inapplicable == "no sample is answered differently by this mistake"
    assert controls["other"].inapplicable == ""
    assert controls["other"].expected["PROBABILITIES"] is LABELLED["PROBABILITIES"]


def test_a_control_is_held_against_each_way_of_asking():
    expected = {"EMBEDDING": np.eye(4, dtype=np.float32)}
    control = Control("shuffled", {"EMBEDDING": np.roll(expected["EMBEDDING"], 1, axis=0)})
    answers = {"alone": expected, "batched": control.expected, "concurrent": None}
    found = hold_against("cosine", control, answers)
    assert found["ways"]["alone"]["figures"]["cosine"] == 0
    assert found["ways"]["batched"]["figures"]["cosine"] == found["figures"]["cosine"] == 1
    assert found["ways"]["concurrent"]["figures"] == {}
    assert found["inapplicable"] == ""


def test_a_difference_is_closest_to_passing_where_it_is_smallest():
    control = Control("other", {"LOGITS": np.float32([[0.0], [2.0]])})
    answers = {"alone": {"LOGITS": np.float32([[1.0], [2.0]])}, "batched": {"LOGITS": np.float32([[0.2], [2.0]])}}
    assert hold_against("regression", control, answers)["figures"]["max_difference"] == pytest.approx(0.1)
