"""Which profiles an engine gets, and what is refused of those that a recipe states."""

from __future__ import annotations

import re

import pytest

from builder.artifacts import Profile
from builder.engine import plan_profiles
from builder.errors import ModelError

BATCH = (1, 8, 64)
BUCKETS = (16, 32, 64, 128, 256)


def test_left_out() -> None:
    assert plan_profiles(BATCH, None) == (Profile(BATCH),)
    assert plan_profiles(BATCH, (2, 64, 256)) == (Profile(BATCH, (2, 64, 256)),)
    two = (Profile(BATCH, (2, 64, 64)), Profile(BATCH, (65, 256, 256)))
    assert plan_profiles(BATCH, (2, 64, 256), BUCKETS) == two
    assert plan_profiles(BATCH, (2, 50, 256), BUCKETS) == two
    assert plan_profiles(BATCH, (2, 200, 256), BUCKETS) == (Profile(BATCH, (2, 256, 256)),)
    assert plan_profiles(BATCH, (2, 16, 16), (16,)) == (Profile(BATCH, (2, 16, 16)),)


def test_stated() -> None:
    stated = (Profile((1, 8, 64), (2, 32, 32)), Profile((1, 1, 64), (33, 256, 256)))
    assert plan_profiles(BATCH, (2, 64, 256), BUCKETS, stated) == stated
    assert plan_profiles(BATCH, (2, 64, 256), (), stated) == stated
    fixed = tuple(Profile(BATCH, (length, length, length)) for length in BUCKETS)
    assert plan_profiles(BATCH, (2, 64, 256), BUCKETS, fixed) == fixed
    assert plan_profiles(BATCH, None, (), (Profile(BATCH),)) == (Profile(BATCH),)


@pytest.mark.parametrize(
    ("stated", "buckets", "words"),
    [
        ((Profile(BATCH, (2, 32, 128)),), BUCKETS, "a batch of 1 of 256 tokens is outside every profile: batches of 1"),
        ((Profile(BATCH, (2, 32, 31)),), (), "sequence [2, 32, 31] must ascend"),
        ((Profile((0, 8, 64), (2, 32, 256)),), (), "batch [0, 8, 64] must ascend from 1"),
        ((Profile((4, 8, 64), (2, 32, 256)),), (), "a batch of 1 of 2 tokens is outside every profile"),
        ((Profile((1, 8, 32), (2, 32, 256)),), (), "a batch of 33 of 2 tokens is outside every profile"),
        (tuple(Profile(BATCH, (size, size, size)) for size in BUCKETS), (), "a batch of 1 of 2 tokens is outside"),
        ((Profile(BATCH, (2, 32, 99)), Profile(BATCH, (101, 256, 256))), (), "a batch of 1 of 100 tokens is outside"),
        ((Profile(BATCH, (2, 32, 64)), Profile((1, 1, 8), (65, 256, 256))), (), "largest batches [8, 64] differ"),
        ((Profile(BATCH),), (), "sequence must be given where texts are"),
    ],
)
def test_refused(stated: tuple[Profile, ...], buckets: tuple[int, ...], words: str) -> None:
    with pytest.raises(ModelError, match=re.escape(words)):
        plan_profiles(BATCH, (2, 64, 256), buckets, stated)
