"""Optimisation profiles: which the engine gets, and whether they hold every shape that will be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from builder.artifacts import Profile
from builder.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Sizes: TypeAlias = tuple[int, int, int]
"""Least, optimal, largest."""


def plan_profiles(
    batch: Sizes, sequence: Sizes | None, buckets: Sequence[int] = (), given: Sequence[Profile] = ()
) -> tuple[Profile, ...]:
    """The profiles of an engine.

    Left to us, there is one; with buckets, two: one fast at the bucket that holds the optimal length, for all up to
    it, and one fast at the longest, for the rest. Kernels are chosen for a profile's optimal shape, so a profile for
    each bucket would be the fastest; but each costs its own time and room. Measured with TensorRT-RTX 1.7, MiniLM fp16,
    compute capability 8.6: 1.3 s of processor time and 50 MB for one profile, 2.1 s and 55 MB for two, 5 s and 70 MB
    for five (TensorRT itself times kernels for each, and needs minutes for what takes seconds here). A recipe can
    state more.

    Args:
        batch: of all requests.
        sequence: tokens; None: the inputs have no such axis.
        buckets: lengths that texts are padded to, ascending; empty: any length comes.
        given: what the recipe states; empty: see above.

    Raises:
        ModelError: the stated profiles are not such that Triton can use them for all these shapes.
    """
    if given:
        _check(given, batch, sequence, buckets)
        return tuple(given)
    if sequence is None or not buckets:
        return (Profile(batch, sequence),)
    least, best, most = sequence
    near = next((length for length in buckets if length >= best), buckets[-1])
    if near >= most:
        return (Profile(batch, (least, min(near, most), most)),)
    return Profile(batch, (least, near, near)), Profile(batch, (near + 1, most, most))


def _check(given: Sequence[Profile], batch: Sizes, sequence: Sizes | None, buckets: Sequence[int]) -> None:
    for index, profile in enumerate(given):
        for name, sizes in (("batch", profile.batch), ("sequence", profile.sequence)):
            if sizes is not None and not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
                raise _wrong(f"profile {index}: {name} {list(sizes)} must ascend from 1: min, opt, max")
        if (profile.sequence is None) != (sequence is None):
            raise _wrong(
                f"profile {index}: sequence must be given {'only ' if sequence is None else ''}where texts are"
            )
    largest = {profile.batch[2] for profile in given}
    if len(largest) > 1:
        raise _wrong(f"largest batches {sorted(largest)} differ: Triton takes profiles of one and the same alone")
    for rows in _edges(batch, (profile.batch for profile in given)):
        for length in _lengths(given, sequence, buckets):
            if not any(_holds(profile, rows, length) for profile in given):
                tokens = "" if length is None else f" of {length} tokens"
                raise _wrong(f"a batch of {rows}{tokens} is outside every profile: {'; '.join(map(_told, given))}")


def _lengths(given: Sequence[Profile], sequence: Sizes | None, buckets: Sequence[int]) -> Iterable[int | None]:
    if sequence is None:
        return (None,)
    return buckets or _edges(sequence, (profile.sequence or sequence for profile in given))


def _edges(whole: Sizes, ranges: Iterable[Sizes]) -> list[int]:
    """Sizes of the whole range at which a profile may begin or end: if all of these are held, all sizes are."""
    edges = {whole[0], whole[2]}
    for least, _, most in ranges:
        edges |= {least - 1, least, most, most + 1}
    return sorted(edge for edge in edges if whole[0] <= edge <= whole[2])


def _holds(profile: Profile, rows: int, length: int | None) -> bool:
    inside = profile.batch[0] <= rows <= profile.batch[2]
    return inside and (length is None or profile.sequence is None or _within(length, profile.sequence))


def _within(size: int, sizes: Sizes) -> bool:
    return sizes[0] <= size <= sizes[2]


def _told(profile: Profile) -> str:
    tokens = f", {profile.sequence[0]} to {profile.sequence[2]} tokens" if profile.sequence else ""
    return f"batches of {profile.batch[0]} to {profile.batch[2]}{tokens}"


def _wrong(what: str) -> ModelError:
    return ModelError(f"shapes.profiles: {what}", mend="mend shapes.profiles in the recipe, or leave it out")
