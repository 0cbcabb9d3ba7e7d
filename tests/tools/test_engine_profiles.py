from __future__ import annotations

import pytest

from builder.artifacts import Profile
from builder.tools import engine_profiles as profiles

WIDE = Profile((1, 8, 32), (2, 64, 256))
SHORT, LONG = Profile((1, 16, 32), (2, 16, 64)), Profile((1, 4, 8), (65, 128, 256))
PIXELS = Profile((1, 8, 16))


@pytest.mark.parametrize(
    ("known", "lengths", "expected"),
    [
        ([WIDE], (16, 256), 32),
        ([SHORT, LONG], (16, 64), 32),
        ([SHORT, LONG], (16, 64, 128), 8),
        ([SHORT], (16, 128), 0),
        ([PIXELS], (), 16),
        ([Profile((4, 8, 16))], (), 0),  # nothing takes a single row
        ([Profile((1, 1, 1)), Profile((2, 4, 8))], (), 8),
        ([Profile((1, 1, 2)), Profile((4, 6, 8))], (), 2),  # three rows fit nowhere
        ([], (16,), 0),
    ],
)
def test_the_largest_batch_that_always_fits(known: list[Profile], lengths: tuple[int, ...], expected: int) -> None:
    assert profiles.largest_batch(known, lengths) == expected


def test_a_range_of_lengths_is_looked_at_where_it_can_change() -> None:
    gap = [SHORT, Profile((1, 4, 8), (66, 128, 256))]
    lengths = profiles.every_length(gap, 2, 256)
    assert set(lengths) == {2, 64, 65, 66, 256}
    assert profiles.largest_batch(gap, lengths) == 0
    assert profiles.narrowest(gap, lengths) == 65
    every = range(2, 257)
    for known in ([SHORT, LONG], gap, [WIDE]):
        at_edges = profiles.largest_batch(known, profiles.every_length(known, 2, 256))
        assert at_edges == profiles.largest_batch(known, tuple(every))


def test_the_nearest_profile_is_named() -> None:
    assert profiles.nearest([SHORT, LONG], 9, 200) == ("profile 1, which takes batches of 1 to 8 and 65 to 256 tokens")
    assert profiles.nearest([SHORT, LONG], 33, 10).startswith("profile 0")
    assert profiles.nearest([PIXELS], 17, None) == "profile 0, which takes batches of 1 to 16"
