"""Lengths follow their distribution, and texts have the lengths that were drawn."""

import statistics

import pytest

from builder.errors import UserError
from builder.sweep import lengths
from builder.sweep.lengths import Lengths, make_texts

SAMPLES = ("one two three", "", "vier fünf", "six  seven\neight nine ten")


def test_uniform_lengths_cover_the_range_evenly():
    drawn = Lengths("uniform", low=4, high=11).draw(16, seed=1)
    assert sorted(drawn) == sorted([*range(4, 12), *range(4, 12)])
    assert drawn != tuple(sorted(drawn))  # short and long ones mixed


def test_log_normal_lengths_have_their_median_and_a_long_tail():
    drawn = Lengths("log_normal", median=20, sigma=0.8).draw(101, seed=1)
    assert statistics.median(drawn) == 20
    assert max(drawn) > 3 * 20
    assert statistics.stdev(map(lengths_log, drawn)) == pytest.approx(0.8, abs=0.05)


def lengths_log(value):
    import math

    return math.log(value)


def test_texts_are_cut_from_the_samples_and_joined_where_these_are_too_short():
    texts = make_texts(SAMPLES, (1, 3, 25), seed=3)
    assert [len(text.split()) for text in texts] == [1, 3, 25]
    assert set(" ".join(texts).split()) <= set(" ".join(SAMPLES).split())
    assert texts == make_texts(SAMPLES, (1, 3, 25), seed=3) != make_texts(SAMPLES, (1, 3, 25), seed=4)


def test_lengths_of_a_recipe_are_read():
    for written in ({"uniform": {"min": 2, "max": 9}}, {"log_normal": {"median": 20.0, "sigma": 0.6}}):
        assert lengths.from_json(written).as_json() == written


@pytest.mark.parametrize(
    "make",
    [
        lambda: Lengths("uniform", low=0, high=3),
        lambda: Lengths("uniform", low=4, high=3),
        lambda: Lengths("log_normal", median=0.5, sigma=1),
        lambda: lengths.from_json({"samples": "x.txt"}),
        lambda: make_texts(("", " "), (3,), seed=0),
    ],
)
def test_what_makes_no_sense_is_refused(make):
    with pytest.raises(UserError):
        make()
