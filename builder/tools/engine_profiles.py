"""Which shapes the optimisation profiles of an engine take.

Triton sends a batch to any instance, and the backend then looks for a profile that holds its shape among those that the
instance names. Where there is none, it takes the first one, whose limits fail the whole batch
(``GetMostOptimizedProfile`` and ``SetBindingDimensions``, ``src/instance_state.cc:1832`` and ``:4267`` of
triton-inference-server/tensorrt_backend at e2ef6d7). So every batch that can form must lie inside a profile: that
bounds ``max_batch_size``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from builder.artifacts import Profile


def largest_batch(profiles: Iterable[Profile], lengths: Sequence[int]) -> int:
    """The largest number of rows for which every batch of 1 to so many, at every length, lies inside a profile.

    Args:
        profiles: of the engine.
        lengths: tokens that the rows of a batch may have; empty: the inputs have no such axis.

    Returns:
        0: there is a length at which not even one row fits.
    """
    known = tuple(profiles)
    return min((_rows(known, length) for length in lengths or (None,)), default=0)


def narrowest(profiles: Iterable[Profile], lengths: Sequence[int]) -> int | None:
    """The length that bounds :func:`largest_batch`; None: the inputs have no such axis."""
    known = tuple(profiles)
    return min(lengths, key=lambda length: _rows(known, length), default=None)


def every_length(profiles: Iterable[Profile], least: int, longest: int) -> tuple[int, ...]:
    """Stands for all lengths from ``least`` to ``longest``: those at which what the profiles hold can change."""
    edges = {least, longest}
    for profile in profiles:
        if profile.sequence is not None:
            first, _, last = profile.sequence
            edges |= {first - 1, first, last, last + 1}
    return tuple(sorted(edge for edge in edges if least <= edge <= longest))


def holds(profile: Profile, length: int | None) -> bool:
    """Whether a profile takes rows of so many tokens."""
    if length is None or profile.sequence is None:
        return True
    return profile.sequence[0] <= length <= profile.sequence[2]


def nearest(profiles: Sequence[Profile], batch: int, length: int | None) -> str:
    """The profile that misses a shape by least, in words."""

    def missed(index: int) -> int:
        profile = profiles[index]
        away = _distance(batch, profile.batch)
        return away + (_distance(length, profile.sequence) if length is not None and profile.sequence else 0)

    index = min(range(len(profiles)), key=missed)
    return f"profile {index}, which takes {told(profiles[index])}"


def told(profile: Profile) -> str:
    """A profile's limits, for a message."""
    rows = f"batches of {_range(profile.batch)}"
    return rows if profile.sequence is None else f"{rows} and {_range(profile.sequence)} tokens"


def _rows(profiles: tuple[Profile, ...], length: int | None) -> int:
    """Up to how many rows, from one on and without a gap, the profiles take at a length."""
    reached = 0
    for profile in sorted(profiles, key=lambda profile: profile.batch[0]):
        if holds(profile, length) and profile.batch[0] <= reached + 1:
            reached = max(reached, profile.batch[2])
    return reached


def _distance(size: int, limits: tuple[int, int, int]) -> int:
    return max(limits[0] - size, size - limits[2], 0)


def _range(limits: tuple[int, int, int]) -> str:
    return str(limits[0]) if limits[0] == limits[2] else f"{limits[0]} to {limits[2]}"
